//! What JavaScript calls V8's builtins: `Array.prototype.map`, not `ArrayMap`.

/// Functions of `Array` itself; V8's other `Array…` builtins are methods,
/// whether their names say `Prototype` or not (`src/builtins/builtins-definitions.h`).
const STATIC_ARRAY: [&str; 4] = ["isArray", "from", "of", "fromAsync"];

/// The global objects whose functions V8 names after them. (`ArrayTimSort` is
/// no function of an `ArrayTim`, and `ArrayIteratorPrototypeNext` one of an
/// object without a name.)
const GLOBALS: [&str; 25] = [
    "Array",
    "ArrayBuffer",
    "Atomics",
    "BigInt",
    "Boolean",
    "DataView",
    "Date",
    "Error",
    "Function",
    "Json",
    "Map",
    "Math",
    "Number",
    "Object",
    "Promise",
    "Proxy",
    "Reflect",
    "RegExp",
    "Set",
    "String",
    "Symbol",
    "WeakMap",
    "WeakRef",
    "WeakSet",
    "FinalizationRegistry",
];

/// The name of the builtin that V8's source calls `symbol`, if it is the one
/// behind the function that JavaScript calls `function`. `None` where it is a
/// helper, a stub or a trampoline.
pub fn javascript_name(symbol: &str, function: &str) -> Option<String> {
    let mut letters = function.chars();
    let capitalized: String = letters.next()?.to_uppercase().chain(letters).collect();
    let owner = symbol.strip_suffix(capitalized.as_str())?;
    let (owner, is_method) = match owner.strip_suffix("Prototype") {
        Some(owner) => (owner, true),
        None => (owner, owner == "Array" && !STATIC_ARRAY.contains(&function)),
    };
    if !GLOBALS.contains(&owner) {
        return None;
    }
    let owner = match owner {
        "Json" => "JSON",
        owner => owner,
    };
    Some(if is_method {
        format!("{owner}.prototype.{function}")
    } else {
        format!("{owner}.{function}")
    })
}

#[cfg(test)]
mod tests {
    use super::javascript_name;

    #[test]
    fn builtins_have_the_names_that_javascript_gives_them() {
        let name = |symbol, function| javascript_name(symbol, function);
        assert_eq!(name("ArrayMap", "map").unwrap(), "Array.prototype.map");
        assert_eq!(
            name("ArrayPrototypeSort", "sort").unwrap(),
            "Array.prototype.sort"
        );
        assert_eq!(name("ArrayIsArray", "isArray").unwrap(), "Array.isArray");
        assert_eq!(name("MathMax", "max").unwrap(), "Math.max");
        assert_eq!(name("JsonParse", "parse").unwrap(), "JSON.parse");
        assert_eq!(
            name("StringPrototypeIndexOf", "indexOf").unwrap(),
            "String.prototype.indexOf"
        );
        assert_eq!(name("ArrayTimSort", "sort"), None);
        assert_eq!(name("ArrayMapLoopContinuation", "map"), None);
        assert_eq!(name("LoadIC", "map"), None);
        assert_eq!(name("Map", "map"), None);
        assert_eq!(name("ArrayMap", ""), None);
    }
}
