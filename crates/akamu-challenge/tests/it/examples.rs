//! The examples that need no network run, and what they assert holds.

#[path = "../../examples/own_challenge_type.rs"]
mod own_challenge_type;
#[path = "../../examples/own_resolver.rs"]
mod own_resolver;
#[path = "../../examples/quorum.rs"]
mod quorum;

#[test]
fn every_example_runs() {
    own_challenge_type::main().unwrap();
    own_resolver::main().unwrap();
    quorum::main().unwrap();
}
