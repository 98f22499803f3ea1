//! vectors/identifiers.json

#[test]
fn every_identifier_is_judged_as_its_vector_says() {
    crate::case_file::assert_holds::<crate::identifiers_case::Case>("identifiers", 59);
}
