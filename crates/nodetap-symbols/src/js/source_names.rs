//! Does the source have a function of that name there?
//!
//! A function's name, its script and its place in it are read from several
//! objects. Of a function that nobody has any more the collector may have given
//! any of them to others; then they contradict each other, mostly.

/// `(`
const PARENTHESIS: u16 = 0x28;

/// Words that stand before a function's parameters and are no name.
const KEYWORDS: [&str; 19] = [
    "async",
    "await",
    "case",
    // Which is called as its class is.
    "constructor",
    "default",
    "delete",
    "do",
    "else",
    "extends",
    "function",
    "in",
    "instanceof",
    "new",
    "of",
    "return",
    "throw",
    "typeof",
    "void",
    "yield",
];

/// Whether no function starts with `unit`.
fn is_never_first(unit: u16) -> bool {
    match u8::try_from(unit) {
        Ok(byte) => byte <= b' ' || byte == 0x7f || b")]},;:.?=<>+-/%&|^~!".contains(&byte),
        Err(_) => false,
    }
}

/// Whether a function can be called `name` that starts with the last character of
/// `up_to`, some of its script's source. Where that opens its parameters, what
/// precedes them is its name, or a keyword, or something that is no word.
pub fn can_be_called(up_to: &[u16], name: &str) -> bool {
    let Some((&start, before)) = up_to.split_last() else {
        return true;
    };
    if start != PARENTHESIS {
        // The first word of a class, a parameter, a member's key; or all of a script.
        return before.is_empty() || !is_never_first(start);
    }
    // Nameless, or a name that V8 made up: `<static_initializer>`.
    if name.is_empty() || name.starts_with('<') {
        return true;
    }
    let text = String::from_utf16_lossy(before);
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    let text = text.trim_end();
    let rest = text.trim_end_matches(is_part);
    let word = &text[rest.len()..];
    // Of a longer word only its end may be there.
    let is_cut = rest.is_empty();
    word.is_empty()
        || is_cut
        // With a unicode escape in it.
        || rest.ends_with(['\\', '}'])
        || KEYWORDS.contains(&word)
        || name.ends_with(word)
}

/// Whether a script that begins with `head` can have a function at its very beginning,
/// which is not all of it: an arrow function, or a class, whose functions start there.
pub fn can_be_first(head: &[u16]) -> bool {
    let head = String::from_utf16_lossy(head);
    head.contains("=>")
        || ["(", "async", "class"]
            .iter()
            .any(|it| head.starts_with(it))
}

/// Whether there are only comments in `rest`, which follows a function but for its last
/// character. The last of them may go on behind it.
pub fn is_only_comments(rest: &[u16]) -> bool {
    let rest = String::from_utf16_lossy(rest);
    let mut behind = rest.chars();
    behind.next();
    are_comments(&rest) || are_comments(behind.as_str())
}

fn are_comments(text: &str) -> bool {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = if let Some(line) = rest.strip_prefix("//") {
            line.split_once('\n')
        } else if let Some(block) = rest.strip_prefix("/*") {
            block.split_once("*/")
        } else {
            return false;
        };
        rest = end.map_or("", |(_, behind)| behind.trim_start());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can(before: &str, name: &str) -> bool {
        let up_to: Vec<u16> = before.encode_utf16().chain([PARENTHESIS]).collect();
        can_be_called(&up_to, name)
    }

    #[test]
    fn a_name_that_stands_before_the_parameters() {
        assert!(can(";\nfunction f_12_3", "f_12_3"));
        assert!(!can(";\nfunction f_12_3", "f_52_3"));
        assert!(can("; get size ", "size"));
        assert!(can("; get size", "get size"));
        assert!(can("{ static #x", "#x"));
        assert!(!can("{ static #x", "#y"));
        assert!(!can("/* */ function grüße", "f"));
    }

    #[test]
    fn what_a_function_at_the_beginning_looks_like() {
        let can = |head: &str| can_be_first(&head.encode_utf16().collect::<Vec<_>>());
        assert!(can("x => x * 2") && can("(a, b) => a") && can("class A { f() {} }"));
        assert!(!can("// Usage: node main.js") && !can("'use strict';"));
    }

    #[test]
    fn only_comments_may_follow_what_is_a_whole_script() {
        let is = |rest: &str| is_only_comments(&rest.encode_utf16().collect::<Vec<_>>());
        for rest in [
            "",
            ";",
            "}",
            "\n// a\n",
            ";\n/* a */ // b\n//# sourceMappingURL=da",
            "}/* a",
        ] {
            assert!(is(rest), "{rest:?}");
        }
        for rest in [
            "// a\nb();",
            "} var a; // b",
            "; f() //",
            "a /b",
            "/* a */ b",
            ");}",
        ] {
            assert!(!is(rest), "{rest:?}");
        }
    }

    #[test]
    fn what_precedes_parameters_besides_names() {
        for before in [
            "",
            "f_52_3",
            "x = ",
            "(",
            "foo(async",
            "export default ",
            "const f = function",
            "const f = function*",
            "o = { [key]",
            "o = { 'a b'",
            "function f /* c */",
            "function \\u{61}b",
        ] {
            assert!(can(before, "name"), "{before}");
        }
        assert!(can("function f", ""));
        assert!(can("class A { constructor", "A"));
        // Of a class the word itself, of an arrow function its parameter.
        for start in ["b\nclass", "async x"] {
            let up_to: Vec<u16> = start.encode_utf16().collect();
            assert!(can_be_called(&up_to, "A"));
        }
        assert!(can_be_called(&[], "A"));
        assert!(can_be_called(&[0x20], "A"));
        assert!(!can_be_called(&[0, 0, 0], "A"));
        assert!(!can_be_called(&[0x7d, 0x0a], "A"));
        assert!(can("class A { static ", "<static_initializer>"));
    }
}
