//! The workspace's test vectors of identifiers and JWS, case by case, by the checks of the example `request_vectors`.

#[path = "../../../../vectors/case_file.rs"]
mod case_file;
mod identifiers;
#[path = "../../examples/request_vectors/identifiers.rs"]
mod identifiers_case;
mod jws;
#[path = "../../examples/request_vectors/jws.rs"]
mod jws_case;
