//! vectors/identifiers.json

#[test]
fn every_identifier_is_judged_as_its_vector_says() {
    crate::case_file::assert_holds::<crate::identifiers_case::Case>("identifiers", 59);
}

#[test]
fn a_text_without_a_type_is_an_address_where_it_can_be() {
    let read = |text: &str| text.parse::<akamu_proto::Identifier>();
    for (text, kind) in [("10.0.0.1", "ip"), ("2001:db8::1", "ip"), ("nas", "dns"), ("*.a.example", "dns")] {
        let identifier = read(text).unwrap();
        assert_eq!((identifier.kind(), identifier.value().as_str()), (kind, text));
    }
    for text in ["", "bad_name", "2001:DB8::1", "::ffff:10.0.0.1", "10.0.0.256"] {
        assert!(read(text).is_err(), "{text}");
    }
}
