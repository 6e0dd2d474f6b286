use serde_json::json;

use super::*;

fn decode(json: serde_json::Value) -> Result<SourceMap, Broken> {
    SourceMap::decode(json.to_string().as_bytes(), false)
}

/// Source, line and column of the place that is asked for, and the name that begins there.
fn at(map: &SourceMap, line: u32, column: u32) -> Option<(&str, u32, u32, Option<&str>)> {
    let found = map.find(line, column)?;
    let source = map.source(found.source).expect("a source");
    Some((source, found.line, found.column, map.name_at(line, column)))
}

/// Two lines; the mappings are (0,0)→a 0:0, (0,9)→nothing, (2,4)→b 10:2 called x.
fn small() -> SourceMap {
    let map = decode(json!({
        "version": 3,
        "sources": ["a.ts", "b.ts"],
        "sourcesContent": ["text", null],
        "names": ["x"],
        "mappings": "AAAA,S;;ICUEA",
    }));
    map.expect("a map")
}

#[test]
fn a_place_belongs_to_the_last_mapping_before_it() {
    let map = small();
    assert_eq!(at(&map, 0, 0), Some(("a.ts", 0, 0, None)));
    assert_eq!(at(&map, 0, 8), Some(("a.ts", 0, 0, None)));
    assert_eq!(at(&map, 0, 9), None);
    assert_eq!(at(&map, 1, 5), None);
    assert_eq!(at(&map, 2, 4), Some(("b.ts", 10, 2, Some("x"))));
    assert_eq!(at(&map, 99, 0), Some(("b.ts", 10, 2, None)));
    assert_eq!(map.find_on_line(99, 0), None);
    assert_eq!(map.name_at(2, 4), Some("x"));
    assert_eq!((map.name_at(2, 5), map.name_at(0, 0)), (None, None));
}

#[test]
fn where_a_map_has_no_names_the_source_has_them() {
    let text = "// é\n  async function 𝒳first(second) { new Third }\n";
    let map = |names: &[&str]| {
        // Columns 2, 8, 17, 25, 26 of line 1, and one of a line that is not there.
        let json = json!({
            "sources": ["a.ts"], "sourcesContent": [text], "names": names,
            "mappings": "AACE,CAAM,CAAS,CAAQ,CAAC,CAuGA",
        });
        decode(json).expect("a map")
    };
    let told = |names: &[&str]| -> Vec<Option<String>> {
        let map = map(names);
        (0..6)
            .map(|column| map.name_at(0, column).map(str::to_owned))
            .collect()
    };
    let first = Some("𝒳first".to_owned());
    let second = Some("second".to_owned());
    assert_eq!(told(&[]), [None, None, first, second, None, None]);
    assert_eq!(told(&["x"]), [const { None }; 6]);
    assert_eq!(word_at("a+b", 1), None);
    assert_eq!(word_at("a+b", 2), Some("b"));
    assert_eq!(word_at("a+b", 3), None);
    assert_eq!(word_at("9a", 0), None);
    assert_eq!(word_at("𝒳", 1), None);
}

#[test]
fn nothing_precedes_the_first_mapping() {
    let map = decode(json!({"sources": ["a"], "names": [], "mappings": ";EAAA"})).expect("a map");
    assert_eq!(at(&map, 0, 9), None);
    assert_eq!(at(&map, 1, 1), None);
    assert_eq!(at(&map, 1, 2), Some(("a", 0, 0, None)));
}

#[test]
fn mappings_out_of_order_are_sorted_and_the_last_of_a_place_counts() {
    // Columns 8, then 2, then 2 again.
    let map = decode(json!({"sources": ["a"], "mappings": "QAAA,NACA,AACA"})).expect("a map");
    assert_eq!(at(&map, 0, 8), Some(("a", 0, 0, None)));
    assert_eq!(at(&map, 0, 3), Some(("a", 2, 0, None)));
}

#[test]
fn the_root_is_put_before_each_source() {
    let map = decode(json!({
        "sourceRoot": "../src", "sources": ["/a.ts", null, 7], "names": [null, {"a": [1]}, "n"],
        "mappings": "AAAAE,CCAA,CCAA",
    }));
    let map = map.expect("a map");
    assert_eq!(at(&map, 0, 0), Some(("../src/a.ts", 0, 0, Some("n"))));
    assert_eq!(at(&map, 0, 1), None);
    assert_eq!(at(&map, 0, 2), None);
}

#[test]
fn sections_are_put_where_they_belong() {
    let section = |line: u32, column: u32, source: &str| {
        json!({
            "offset": {"line": line, "column": column},
            "map": {"version": 3, "sources": [source], "names": [source], "mappings": "AAAAA;CACA"},
        })
    };
    let map = decode(json!({
        "version": 3,
        "sections": [
            section(0, 0, "a"),
            section(5, 10, "b"),
            {"offset": {"line": 9, "column": 0}, "url": "elsewhere.map"},
        ],
    }));
    let map = map.expect("a map");
    assert_eq!(at(&map, 0, 0), Some(("a", 0, 0, Some("a"))));
    assert_eq!(at(&map, 1, 1), Some(("a", 1, 0, None)));
    assert_eq!(at(&map, 5, 9), Some(("a", 1, 0, None)));
    assert_eq!(at(&map, 5, 10), Some(("b", 0, 0, Some("b"))));
    assert_eq!(at(&map, 6, 1), Some(("b", 1, 0, None)));
    let nested =
        json!({"sections": [{"offset": {"line": 0, "column": 0}, "map": {"sections": []}}]});
    assert_eq!(decode(nested).err(), Some(Broken::Mappings));
}

#[test]
fn numbers_without_sense_have_no_source() {
    // A source that is not there, a line before the first, a name that is not there.
    let map = decode(json!({"sources": ["a"], "names": [], "mappings": "ACAA,CDDA,CACAA"}));
    let map = map.expect("a map");
    assert_eq!((at(&map, 0, 0), at(&map, 0, 1)), (None, None));
    assert_eq!(at(&map, 0, 2), Some(("a", 0, 0, None)));
    // Columns that go below 0 are nowhere.
    let map = decode(json!({"sources": ["a"], "mappings": "DAAA,EACA"})).expect("a map");
    assert_eq!(at(&map, 0, 0), None);
    assert_eq!(at(&map, 0, 1), Some(("a", 1, 0, None)));
}

#[test]
fn what_is_no_map_is_refused() {
    for text in [
        "",
        "{",
        "[]",
        "7",
        "{}",
        r#"{"mappings":7}"#,
        r#"{"sections":7}"#,
        "\0\u{1}",
    ] {
        assert_eq!(
            SourceMap::decode(text.as_bytes(), false).err(),
            Some(Broken::Json),
            "{text}"
        );
    }
    for mappings in ["A!", "g", "AAAAAA", "ggggggggggggA", "é"] {
        let map = decode(json!({"sources": ["a"], "mappings": mappings}));
        assert_eq!(map.err(), Some(Broken::Mappings), "{mappings}");
    }
    let deep = "[".repeat(100_000);
    let deep = format!(r#"{{"mappings":"","x":{deep}"#);
    assert_eq!(
        SourceMap::decode(deep.as_bytes(), false).err(),
        Some(Broken::Json)
    );
    let junk = SourceMap::decode(b")]}'\n{\"sources\":[\"a\"],\"mappings\":\"AAAA\"}", false);
    assert_eq!(at(&junk.expect("a map"), 0, 0), Some(("a", 0, 0, None)));
}

#[test]
fn there_is_a_limit() {
    let many = json!({"sources": ["a"], "mappings": "C,".repeat(MAX_MAPPINGS + 1)});
    assert_eq!(decode(many).err(), Some(Broken::TooLarge));
    let names = "0,".repeat(MAX_ITEMS + 1);
    let names = format!(r#"{{"mappings":"","names":[{names}0]}}"#);
    assert_eq!(
        SourceMap::decode(names.as_bytes(), false).err(),
        Some(Broken::Json)
    );
}

/// Bits of a map that are turned over make another map or an error, and no panic.
#[test]
fn damaged_maps_do_no_harm() {
    let text = json!({
        "version": 3, "sourceRoot": "r/", "sources": ["a", "b"], "names": ["x", "y"],
        "mappings": "AAAAA,SCAAC;;;ICUEA,EDBA;A",
    });
    let text = text.to_string().into_bytes();
    for index in 0..text.len() {
        for bit in 0..8 {
            let mut damaged = text.clone();
            damaged[index] ^= 1 << bit;
            if let Ok(map) = SourceMap::decode(&damaged, false) {
                for (line, column) in [(0, 0), (0, 20), (3, 4), (u32::MAX, u32::MAX)] {
                    at(&map, line, column);
                    map.name_at(line, column);
                }
            }
        }
        assert!(SourceMap::decode(&text[..index], false).is_err());
    }
}
