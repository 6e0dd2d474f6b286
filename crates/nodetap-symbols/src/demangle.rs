//! Function names as people read them, from the linker's mangled ones.
//!
//! A name here is what the function is called with its namespaces and classes:
//! no return type, no parameter list, no clone suffix of the compiler, so that
//! all parts of one function read the same. A name longer than
//! [`LONG`] characters has its outermost template arguments and parameter lists
//! written `<…>` and `(…)`.

use std::borrow::Cow;

use cpp_demangle::{
    BorrowedSymbol, DemangleNodeType, DemangleOptions, DemangleWrite, ParseOptions,
};

/// Names up to this many characters are written in full.
pub const LONG: usize = 200;

/// V8's TurboShaft nests one template per compiler phase; the default limit of
/// the demangler (96) gives up on one in a hundred of Node 24's functions. A
/// level takes under a kilobyte of stack.
const RECURSION: u32 = 500;

/// Substitutions can make a name grow without end: what grows beyond is cut.
const LONGEST: usize = 64 << 10;

/// Suffixes with which compilers mark the parts and copies of one function.
const CLONES: [&str; 9] = [
    ".cold",
    ".part.",
    ".constprop.",
    ".isra.",
    ".llvm.",
    ".lto_priv.",
    ".localalias",
    ".clone.",
    ".avx2",
];

/// The readable name of a linker symbol, which is the symbol itself where it is
/// not mangled (C) or cannot be read.
///
/// ```
/// use nodetap_symbols::demangle::readable;
///
/// assert_eq!(
///     readable("_ZN2v88internal4Heap14CollectGarbageENS0_15AllocationSpaceEi.cold"),
///     "v8::internal::Heap::CollectGarbage"
/// );
/// assert_eq!(readable("uv_run"), "uv_run");
/// ```
pub fn readable(symbol: &str) -> Cow<'_, str> {
    // `name@VERSION`, `name@@VERSION`
    let symbol = match symbol.find('@') {
        Some(at) if at > 0 => &symbol[..at],
        _ => symbol,
    };
    if let Ok(name) = rustc_demangle::try_demangle(symbol) {
        return Cow::Owned(shorten(format!("{name:#}")));
    }
    let symbol = without_clone_suffix(symbol);
    if !symbol.starts_with("_Z") {
        return Cow::Borrowed(symbol);
    }
    match demangle_cpp(symbol).or_else(|| prefix(symbol)) {
        Some(name) => Cow::Owned(shorten(name)),
        None => Cow::Borrowed(symbol),
    }
}

fn without_clone_suffix(symbol: &str) -> &str {
    CLONES
        .iter()
        .filter_map(|suffix| symbol.find(suffix))
        .filter(|&at| at > 0)
        .min()
        .map_or(symbol, |at| &symbol[..at])
}

/// Collects a demangled name up to [`LONGEST`].
#[derive(Default)]
struct Bounded(String);

impl DemangleWrite for Bounded {
    fn push_demangle_node(&mut self, _: DemangleNodeType) {}

    fn write_string(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > LONGEST {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }

    fn pop_demangle_node(&mut self) {}
}

fn demangle_cpp(symbol: &str) -> Option<String> {
    let parse = ParseOptions::default().recursion_limit(RECURSION);
    let (parsed, rest) = BorrowedSymbol::with_tail_and_options(symbol.as_bytes(), &parse).ok()?;
    // C++20: `Q` and the function's constraint, which is no part of its name.
    if !(rest.is_empty() || rest.starts_with(b"Q")) {
        return None;
    }
    let options = DemangleOptions::new()
        .no_params()
        .no_return_type()
        .hide_expression_literal_types()
        .recursion_limit(RECURSION);
    let mut name = Bounded::default();
    parsed.structured_demangle(&mut name, &options).ok()?;
    let mut name = name.0;
    // `{virtual override thunk({offset(-80)}, NAME)}`
    if let Some(target) = thunk_target(&name) {
        name = target.to_owned();
    }
    // The qualifiers of a member function belong to the parameter list.
    for qualifier in [" &&", " &", " volatile", " const"] {
        if let Some(rest) = name.strip_suffix(qualifier) {
            name.truncate(rest.len());
        }
    }
    Some(name)
}

/// The function that a thunk (an entry that adjusts `this`) goes to, if `name`, as
/// the demangler writes it, is a thunk's.
fn thunk_target(name: &str) -> Option<&str> {
    let mut rest = name.strip_prefix("{virtual override thunk(")?;
    // `{offset(-8)}, `, and another where the return type is adjusted too.
    while rest.starts_with('{') {
        rest = rest.split_once("}, ")?.1;
    }
    rest.strip_suffix(")}")
}

/// The leading namespaces and names of a symbol that the demangler cannot read
/// (constrained template parameters of C++20: `PipelineImpl::Run` in V8 14), up
/// to the first template arguments, written `<…>`.
fn prefix(symbol: &str) -> Option<String> {
    let mut rest = symbol.strip_prefix("_Z")?;
    // A local entity: named by the function that it is in.
    while let Some(inner) = rest.strip_prefix('Z') {
        rest = inner;
    }
    rest = rest.strip_prefix('N').unwrap_or(rest);
    rest = rest.trim_start_matches(['r', 'V', 'K', 'R', 'O']);
    let mut name = String::new();
    if let Some(inner) = rest.strip_prefix("St") {
        rest = inner;
        name.push_str("std");
    }
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            break;
        }
        let length: usize = rest[..digits].parse().ok()?;
        let part = rest.get(digits..digits.checked_add(length)?)?;
        if !name.is_empty() {
            name.push_str("::");
        }
        name.push_str(match part {
            "_GLOBAL__N_1" => "(anonymous namespace)",
            part => part,
        });
        rest = &rest[digits + length..];
    }
    if name.is_empty() || name == "std" {
        return None;
    }
    // Anything but template arguments would say less than the symbol itself.
    rest.starts_with('I').then(|| name + "<…>")
}

/// Writes the outermost `<…>` and `(…)` of a long name without what is in them.
fn shorten(name: String) -> String {
    if name.chars().count() <= LONG {
        return name;
    }
    let mut short = String::with_capacity(LONG);
    let mut open: Vec<char> = Vec::new();
    let mut rest = name.as_str();
    while let Some(c) = rest.chars().next() {
        if open.is_empty() {
            if let Some(whole) = ["(anonymous namespace)", "operator()"]
                .into_iter()
                .chain(ANGLE_OPERATORS)
                .find(|whole| rest.starts_with(whole))
            {
                short.push_str(whole);
                rest = &rest[whole.len()..];
                continue;
            }
        } else if let Some(whole) = ANGLE_OPERATORS
            .into_iter()
            .chain(["->"])
            .find(|whole| rest.starts_with(whole))
        {
            // An operator's name or an expression, not a bracket.
            rest = &rest[whole.len()..];
            continue;
        }
        match c {
            '<' | '(' => {
                if open.is_empty() {
                    short.push(c);
                    short.push('…');
                }
                open.push(c);
            }
            // A `>` in parentheses is a comparison, and so was a `<` that a
            // closing parenthesis finds open.
            '>' | ')' => {
                let opening = if c == '>' { '<' } else { '(' };
                let closes = match c {
                    '>' => open.last() == Some(&opening),
                    _ => open.contains(&opening),
                };
                if closes {
                    while open.pop() != Some(opening) {}
                }
                if open.is_empty() {
                    short.push(c);
                }
            }
            c if open.is_empty() => short.push(c),
            _ => {}
        }
        rest = &rest[c.len_utf8()..];
    }
    short
}

/// Operators whose names hold angle brackets, longest first.
const ANGLE_OPERATORS: [&str; 11] = [
    "operator<=>",
    "operator<<=",
    "operator>>=",
    "operator->*",
    "operator<<",
    "operator>>",
    "operator<=",
    "operator>=",
    "operator->",
    "operator<",
    "operator>",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_names_stay_and_versions_and_clone_suffixes_go() {
        assert_eq!(readable("malloc"), "malloc");
        assert_eq!(readable("memcpy@@GLIBC_2.14"), "memcpy");
        assert_eq!(readable("uv__io_poll.part.0"), "uv__io_poll");
        assert_eq!(readable("uv__io_poll.constprop.0.isra.0"), "uv__io_poll");
        assert_eq!(readable("sqlite3Select.cold"), "sqlite3Select");
        assert_eq!(readable(".part.0"), ".part.0");
        assert_eq!(readable("@"), "@");
        assert_eq!(readable(""), "");
    }

    #[test]
    fn c_plus_plus_names_have_neither_parameters_nor_return_type() {
        for (symbol, name) in [
            ("_ZN4node5StartEiPPc", "node::Start"),
            (
                "_ZNK2v88internal4Heap13IsTearingDownEv",
                "v8::internal::Heap::IsTearingDown",
            ),
            (
                "_ZN4node12_GLOBAL__N_120PlatformWorkerThreadEPv",
                "node::(anonymous namespace)::PlatformWorkerThread",
            ),
            (
                "_ZZN4node6worker6Worker11StartThreadERKN2v820FunctionCallbackInfoINS2_5ValueEEEENUlPvE_4_FUNES8_",
                "node::worker::Worker::StartThread(v8::FunctionCallbackInfo<v8::Value> const&)::{lambda(void*)#1}::_FUN",
            ),
            (
                "_ZN2v88internal10ParserBaseINS0_6ParserEE13ParsePropertyEv",
                "v8::internal::ParserBase<v8::internal::Parser>::ParseProperty",
            ),
            ("_ZThn120_N4node7UDPWrapD1Ev", "node::UDPWrap::~UDPWrap"),
            ("_ZTch0_h16_N1a1bEv", "a::b"),
            // Two halves of one function read the same.
            (
                "_ZN4node13CallbackScopeC2EPN2v87IsolateENS1_5LocalINS1_6ObjectEEENS_13async_contextE.cold",
                "node::CallbackScope::CallbackScope",
            ),
            (
                "_ZN4node13CallbackScopeC1EPN2v87IsolateENS1_5LocalINS1_6ObjectEEENS_13async_contextE",
                "node::CallbackScope::CallbackScope",
            ),
        ] {
            assert_eq!(readable(symbol), name);
        }
    }

    #[test]
    fn rust_names_have_no_hash() {
        assert_eq!(
            readable("_ZN4core3fmt9Formatter3pad17h5abfc809bff47fb2E"),
            "core::fmt::Formatter::pad"
        );
        assert_eq!(readable("_RNvCskwGfYPst2Cb_3foo3bar.llvm.1234"), "foo::bar");
    }

    #[test]
    fn names_with_constraints_are_read_as_far_as_they_can_be() {
        // The constraint follows the name.
        assert_eq!(
            readable(
                "_ZN2v84base11SmallVectorINS_8internal12JsonPropertyELm16ESaIS3_EE6resizeEmQsr3stdE21default_initializableIT_E"
            ),
            "v8::base::SmallVector<v8::internal::JsonProperty, 16, std::allocator<v8::internal::JsonProperty> >::resize"
        );
        // It stands in the middle.
        assert_eq!(
            readable(
                "_ZN2v88internal8compiler12PipelineImpl3RunITkNS1_10turboshaft13TurbofanPhaseENS1_10TyperPhaseEJPNS1_5TyperEEEEbDpOT0_"
            ),
            "v8::internal::compiler::PipelineImpl::Run<…>"
        );
        assert_eq!(
            readable("_ZNSt4pairITkNS_1XE"),
            "std::pair<…>",
            "however it goes on"
        );
    }

    #[test]
    fn what_is_no_symbol_stays_as_it_is() {
        for symbol in [
            "_Z",
            "_ZN",
            "_ZN99999999999999999999999a",
            "_ZN4nod",
            "_ZN3ab\u{e9}I",
            "_R",
            "_ZStI",
        ] {
            assert_eq!(readable(symbol), symbol);
        }
    }

    #[test]
    fn long_names_lose_what_stands_in_brackets() {
        let long = "x".repeat(LONG);
        let cases = [
            ("a<{}>::b", "a<…>::b"),
            ("a<b<{}> >::c<d>::operator()", "a<…>::c<…>::operator()"),
            (
                "n::(anonymous namespace)::f(int, {})::{lambda({})#1}::_FUN",
                "n::(anonymous namespace)::f(…)::{lambda(…)#1}::_FUN",
            ),
            ("operator<< <{}>", "operator<< <…>"),
            ("s<{}>::operator-><int>", "s<…>::operator-><…>"),
            ("s<({}<1)>::f", "s<…>::f"),
            ("s<({}>1)>::f", "s<…>::f"),
            ("s<&q::operator< {}>::f", "s<…>::f"),
            ("s<decltype(a->b), {}>::f", "s<…>::f"),
            ("s<{}::f", "s<…"),
        ];
        for (name, short) in cases {
            assert_eq!(shorten(name.replace("{}", &long)), short);
            assert_eq!(shorten(name.replace("{}", "y")), name.replace("{}", "y"));
        }
        assert_eq!(shorten(long.clone() + "::f"), long + "::f");
    }
}
