//! What a function was called in its original source.
//!
//! A map tells the original of a name at the place in the generated text where the name
//! stands. So that it is the function's own name and not another one nearby, the text
//! must have V8's name of the function there: before its parameters, or on the other
//! side of what it is assigned to. Otherwise V8's name is kept.
//!
//! V8 has no name for what esbuild, and so tsx, gives its name when it runs:
//! `f = __name(() => 1, "f")`. It is found in the text.

use super::map::SourceMap;
use crate::generated::FunctionText;

/// What V8 calls a function that has no name.
const ANONYMOUS: &str = "(anonymous)";

/// The original name of the function that V8 calls `name`, and that starts at this place
/// of the generated text, counted from 0.
pub fn original_name(
    map: &SourceMap,
    text: &FunctionText,
    name: &str,
    (line, column): (u32, u32),
) -> Option<String> {
    let assigned_later = match name == ANONYMOUS {
        true => Some(name_assigned_later(&text.before)?),
        false => None,
    };
    let name = assigned_later.as_deref().unwrap_or(name);
    let units: Vec<u16> = name.encode_utf16().collect();
    let mut column = i64::from(column) + place_of(text, &units)?;
    let mut is_found = assigned_later.is_some();
    // Of `a.b = function` both have a place of their own.
    let parts = name.split('.').map(|part| {
        let found = map.name_at(line, u32::try_from(column).ok()?);
        column += part.encode_utf16().count() as i64 + 1;
        is_found |= found.is_some();
        Some(found.unwrap_or(part))
    });
    let parts: Option<Vec<&str>> = parts.collect();
    let name = parts?.join(".");
    is_found.then_some(name)
}

/// How far from the function's start on its name stands, on the same line.
fn place_of(text: &FunctionText, name: &[u16]) -> Option<i64> {
    if name.is_empty() {
        return None;
    }
    let back = |place: usize| place as i64 - text.before.len() as i64;
    // class A { }
    if let Some(rest) = strip_word(&text.after, "class") {
        let place = text.after.len() - rest.len();
        return match is_word_at(rest, name) {
            true => Some(place as i64),
            false => assigned(&text.before, name).map(back),
        };
    }
    // function f(, f(, async f(, get f(: the parameters are next.
    if let Some(before) = text.before.strip_suffix(name)
        && !before.last().copied().is_some_and(is_part)
    {
        return Some(back(before.len()));
    }
    // f = function(, f = async(, f: (
    let before = before_expression(&text.before);
    let before = before_naming(before).unwrap_or(before);
    assigned(before, name).map(back)
}

/// What precedes the expression of a function that starts behind `before`.
fn before_expression(before: &[u16]) -> &[u16] {
    let mut before = trim(before);
    before = before.strip_suffix(&[u16::from(b'*')]).map_or(before, trim);
    for keyword in ["function", "async"] {
        if let Some(rest) = strip_word_back(before, keyword) {
            before = trim(rest);
        }
    }
    before
}

/// What precedes the call that gives a function its name, if `before` ends with that.
fn before_naming(before: &[u16]) -> Option<&[u16]> {
    let before = strip_word_back(before.strip_suffix(&[u16::from(b'(')])?, "__name")?;
    let before = trim(before);
    let comment: Vec<u16> = "/* @__PURE__ */".encode_utf16().collect();
    Some(before.strip_suffix(&comment[..]).map_or(before, trim))
}

/// The name that such a call gives to the function that starts behind `before`.
fn name_assigned_later(before: &[u16]) -> Option<String> {
    let before = before_naming(before_expression(before))?;
    let before = trim(before.strip_suffix(&[u16::from(b'=')])?);
    let rest = before.iter().rposition(|&unit| !is_part(unit));
    // All of it must be there.
    let name = &before[rest? + 1..];
    let is_name = name
        .first()
        .is_some_and(|&first| !(0x30..=0x39).contains(&first));
    is_name.then(|| String::from_utf16_lossy(name))
}

/// Where `name` stands that what comes behind `before` is assigned to.
fn assigned(before: &[u16], name: &[u16]) -> Option<usize> {
    let before = trim(before);
    let before = before
        .strip_suffix(&[u16::from(b'=')])
        .or_else(|| before.strip_suffix(&[u16::from(b':')]))?;
    let before = trim(before).strip_suffix(name)?;
    let is_whole = !before
        .last()
        .is_some_and(|&unit| is_part(unit) || unit == u16::from(b'.'));
    is_whole.then_some(before.len())
}

/// `text` without the blanks at its end. What is on another line is not seen: places
/// could not be counted.
fn trim(text: &[u16]) -> &[u16] {
    let blank = |unit: &u16| *unit == 0x20 || *unit == 0x09;
    let end = text.iter().rposition(|unit| !blank(unit));
    &text[..end.map_or(0, |end| end + 1)]
}

fn is_word_at(text: &[u16], word: &[u16]) -> bool {
    let rest = text.strip_prefix(word);
    rest.is_some_and(|rest| !rest.first().copied().is_some_and(is_part))
}

/// What follows `word` and one blank or more.
fn strip_word<'a>(text: &'a [u16], word: &str) -> Option<&'a [u16]> {
    let word: Vec<u16> = word.encode_utf16().collect();
    let rest = text.strip_prefix(&word[..])?;
    if rest.first().copied().is_some_and(is_part) {
        return None;
    }
    let blanks = rest.iter().take_while(|&&unit| unit == 0x20).count();
    Some(&rest[blanks..])
}

fn strip_word_back<'a>(text: &'a [u16], word: &str) -> Option<&'a [u16]> {
    let word: Vec<u16> = word.encode_utf16().collect();
    let rest = text.strip_suffix(&word[..])?;
    (!rest.last().copied().is_some_and(is_part)).then_some(rest)
}

/// Whether `unit` can be a part of a name.
fn is_part(unit: u16) -> bool {
    match char::from_u32(unit.into()) {
        Some(unit) => unit.is_alphanumeric() || matches!(unit, '_' | '$' | '#'),
        // Half of a character: there are names of such.
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text at which the name is found to stand in `code`, where `|` is the start.
    fn found(code: &str, name: &str) -> Option<String> {
        let units = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
        let (before, after) = code.split_once('|').expect("a start");
        let text = FunctionText {
            before: units(before),
            after: units(after),
        };
        let place = place_of(&text, &units(name))?;
        let all = units(&code.replace('|', ""));
        let from = usize::try_from(text.before.len() as i64 + place).expect("in the text");
        Some(String::from_utf16_lossy(
            &all[from..from + name.encode_utf16().count()],
        ))
    }

    #[test]
    fn a_name_stands_before_the_parameters_or_is_assigned_to() {
        for code in [
            ";function f|(a){}",
            "{f|(a){}",
            "{async f|(a){}",
            "{get f|(){}",
            "let f=function|(a){}",
            "let f = function |(a){}",
            "let f=function*|(){}",
            "f=async function|(a){}",
            "f=async|(a)=>a",
            "f=|(a)=>a",
            "f=|a=>a",
            "{f:|(a)=>a",
            "f=|class{}",
            "f=|class extends g{}",
            "=|class f{}",
            "|class f extends g{}",
            "|class f{}",
        ] {
            assert_eq!(found(code, "f").as_deref(), Some("f"), "{code}");
        }
        assert_eq!(found("𝒳é=|x=>x", "𝒳é").as_deref(), Some("𝒳é"));
    }

    #[test]
    fn no_other_name_is_taken_for_it() {
        for code in [
            "af|(){}",
            "g(function|(){})",
            "f(function|(){})",
            "f(|()=>1)",
            "f,|()=>1",
            "g=|()=>1",
            "a.f=|()=>1",
            "ff=|()=>1",
            "f=g(|()=>1",
            "{constructor|(){}",
            "f=\n|()=>1",
            "|class g{}",
            "|class ff{}",
            "|",
        ] {
            assert_eq!(found(code, "f"), None, "{code}");
        }
        assert_eq!(found("f=|x", ""), None);
    }

    #[test]
    fn a_name_that_a_function_is_given_when_it_runs() {
        let name = |before: &str| name_assigned_later(&before.encode_utf16().collect::<Vec<_>>());
        for before in [
            "const f=__name(",
            "const f = /* @__PURE__ */ __name(async ",
            ";f=__name(function*",
            ";\nf=__name(",
        ] {
            assert_eq!(name(before).as_deref(), Some("f"), "{before}");
        }
        for before in [
            "f=__name(",
            "return __name(",
            ";f=a__name(",
            ";f=(",
            "",
            "=__name(",
            ";9=__name(",
            ";f=__name(g(",
        ] {
            assert_eq!(name(before), None, "{before}");
        }
    }

    #[test]
    fn the_map_says_what_it_was_called() {
        // f is at column 4; what is mapped at column 6 has a name of its own.
        let json = br#"{"sources":["a"],"names":["first","second"],"mappings":"IAAAA,EAAAC"}"#;
        let map = SourceMap::decode(json, false).expect("a map");
        let text = FunctionText {
            before: "let f=".encode_utf16().collect(),
            after: "x=>x".encode_utf16().collect(),
        };
        let name = |text: &FunctionText, name: &str, column: u32| {
            original_name(&map, text, name, (0, column))
        };
        assert_eq!(name(&text, "f", 6).as_deref(), Some("first"));
        assert_eq!(name(&text, "f", 7), None);
        assert_eq!(name(&text, "f", 1), None);
        assert_eq!(name(&text, "g", 6), None);
        let text = FunctionText {
            before: "let f.g=function".encode_utf16().collect(),
            ..text
        };
        assert_eq!(name(&text, "f.g", 16).as_deref(), Some("first.second"));
        assert_eq!(name(&text, "f.g", 18).as_deref(), Some("second.g"));
        assert_eq!(name(&text, "g", 16), None);
        let text = FunctionText {
            before: "let f=__name(".encode_utf16().collect(),
            ..text
        };
        assert_eq!(name(&text, ANONYMOUS, 13).as_deref(), Some("first"));
        assert_eq!(name(&text, ANONYMOUS, 33).as_deref(), Some("f"));
    }
}
