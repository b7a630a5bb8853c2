use std::collections::HashSet;
use std::io::Cursor;

use proptest::prelude::*;

use super::*;

/// The whole list, checked as the flow checks it.
fn parse(bytes: &[u8], format: ListFormat) -> Result<Vec<Row>, ListError> {
    let open = || Rows::open(Box::new(Cursor::new(bytes.to_vec())), format, None);
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    let mut prints = Twins::default();
    for item in open()? {
        match item {
            Ok(row) => {
                unique::add(&mut prints, &row);
                rows.push(row);
            }
            Err(Slip::Row(slips)) => problems.extend(slips),
            Err(Slip::End(error)) => return Err(error),
        }
    }
    for mut group in prints.repeated() {
        for row in &rows {
            unique::look(&mut group, row, &mut problems);
        }
    }
    if !problems.is_empty() {
        return Err(ListError::Rows(problems));
    }
    if rows.is_empty() {
        return Err(ListError::Empty);
    }
    Ok(rows)
}

fn slips(bytes: &[u8], format: ListFormat) -> Vec<String> {
    match parse(bytes, format) {
        Err(ListError::Rows(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn good_lists_are_read() {
    let csv = "\u{feff}serial,site\r\nA-1,\"Berlin, Nord\"\r\nA-2,Köln\r\n";
    let list = parse(csv.as_bytes(), ListFormat::Csv).unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[1].line, 3);
    assert_eq!(list[0].value("site"), Some("Berlin, Nord"));
    let json = b"{\"name\":\"a\",\"n\":7}\n\n{\"name\":\"b\",\"more\":true}\n";
    let list = parse(json, ListFormat::Ndjson).unwrap();
    assert_eq!(list[0].value("n"), Some("7"));
    assert_eq!(list[1].value("n"), None);
    assert_eq!(list[1].value("more"), Some("true"));
    assert_eq!(list[1].line, 3);
}

#[test]
fn a_name_that_cannot_be_read_is_one_slip() {
    let found = slips(b"serial\nB\xff\n", ListFormat::Csv);
    assert_eq!(
        found,
        ["line 2, column `serial`: byte 0xff at position 2 is not UTF-8"]
    );
}

#[test]
fn slips_are_named_with_line_and_column() {
    let long = format!("serial\n{}\n", "x".repeat(129));
    assert!(slips(long.as_bytes(), ListFormat::Csv)[0].starts_with("line 2, column `serial`"));
    for (bytes, expected) in [
        (
            &b"serial,b\nA,1\nB,1\nA,1\n"[..],
            "line 4, column `serial`: `A` is already on line 2",
        ),
        (
            b"serial,b\n,1\n",
            "line 2, column `serial`: the name is empty",
        ),
        (b"serial,b\nA\n", "line 2: 1 values for 2 columns"),
        (
            b"serial,b\nA,x\xff\n",
            "line 2, column `b`: byte 0xff at position 2 is not UTF-8",
        ),
        (
            b"name,serial\nA,1\nB,1\n",
            "line 3, column `serial`: `1` is already on line 2",
        ),
    ] {
        assert_eq!(slips(bytes, ListFormat::Csv), [expected]);
    }
    let blank = slips(b"\r\nserial\r\n\r\n\r\nA B\r\n", ListFormat::Csv);
    assert!(blank[0].starts_with("line 5, "), "{blank:?}");
    let json = slips(b"{\"name\":\"a\"}\n{\"name\":}\n", ListFormat::Ndjson);
    assert!(
        json[0].starts_with("line 2: not a JSON object, at character 9"),
        "{json:?}"
    );
    for (bytes, code) in [
        (&b""[..], "list.name-column"),
        (b"serial\n", "list.empty"),
        (b"foo\n1\n", "list.name-column"),
        (b"serial,serial\nA,B\n", "list.header"),
    ] {
        let error = parse(bytes, ListFormat::Csv).unwrap_err();
        assert_eq!(error.code(), code);
    }
}

#[test]
fn a_row_without_an_end_is_not_read_into_memory() {
    let open = [b"name\nA\n\"".to_vec(), vec![b'x'; 3 << 20]].concat();
    let line = [b"{\"name\":\"".to_vec(), vec![b'x'; 3 << 20]].concat();
    for (bytes, format) in [(open, ListFormat::Csv), (line, ListFormat::Ndjson)] {
        let error = parse(&bytes, format).unwrap_err();
        assert_eq!(error.code(), "list.read", "{error}");
    }
}

fn any_list() -> impl Strategy<Value = Vec<u8>> {
    let alphabet = b"name,serial\n\r\"{}:[]\\ab1\xc3\xbc\xff".to_vec();
    let picked = || proptest::collection::vec(proptest::sample::select(alphabet.clone()), 0..80);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        picked(),
        picked().prop_map(|rest| [b"name,serial\n".to_vec(), rest].concat()),
        picked().prop_map(|rest| [b"{\"name\":\"a\"}\n".to_vec(), rest].concat()),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_rows_or_slips(bytes in any_list()) {
        let lines = bytes.split(|b| *b == b'\n').count() as u64;
        for format in [ListFormat::Csv, ListFormat::Ndjson] {
            match parse(&bytes, format) {
                Ok(list) => {
                    let names: HashSet<&ThingName> = list.iter().map(|row| &row.name).collect();
                    prop_assert!(!names.is_empty() && names.len() == list.len());
                }
                Err(ListError::Rows(slips)) => {
                    prop_assert!(slips.iter().all(|slip| (1..=lines).contains(&slip.line)));
                }
                Err(_) => {}
            }
        }
    }

    #[test]
    fn quoted_values_are_read_back(values in proptest::collection::vec("[a-zA-Z0-9,\"ü;=/+-]{1,20}", 1..20)) {
        let rows = values.iter().enumerate();
        let row = |(n, value): (usize, &String)| format!("d{n},\"{}\"\n", value.replace('"', "\"\""));
        let text = "name,v\n".to_owned() + &rows.map(row).collect::<String>();
        let list = parse(text.as_bytes(), ListFormat::Csv).unwrap();
        let read: Vec<&str> = list.iter().filter_map(|row| row.value("v")).collect();
        prop_assert_eq!(read, values);
    }
}
