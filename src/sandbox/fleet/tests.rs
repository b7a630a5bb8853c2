use super::*;

#[test]
fn topics_are_known_by_operation_and_format() {
    for (topic, expected) in [
        (
            "$aws/certificates/create/json",
            Some((Operation::Keys, Format::Json)),
        ),
        (
            "$aws/certificates/create-from-csr/cbor",
            Some((Operation::Csr, Format::Cbor)),
        ),
        (
            "$aws/provisioning-templates/t-1/provision/json",
            Some((Operation::Provision("t-1".parse().unwrap()), Format::Json)),
        ),
        ("$aws/certificates/create/xml", None),
        ("$aws/certificates/create/json/accepted", None),
        ("$aws/provisioning-templates/a/b/provision/json", None),
        ("$aws/provisioning-templates//provision/json", None),
        ("x/$aws/certificates/create/json", None),
    ] {
        assert_eq!(parse_topic(topic), expected, "{topic}");
    }
}

#[test]
fn parameters_are_texts() {
    let of = |json: Value| parameters(json.as_object().unwrap());
    assert!(of(json!({})).unwrap().is_empty());
    assert_eq!(of(json!({"parameters": {"a": "b"}})).unwrap()["a"], "b");
    for bad in [json!({"parameters": []}), json!({"parameters": {"a": 1}})] {
        assert_eq!(of(bad).unwrap_err().code, "InvalidParameters");
    }
    let long = "x".repeat(MAX_PARAMETER_VALUE + 1);
    assert!(of(json!({"parameters": {"a": long}})).is_err());
}
