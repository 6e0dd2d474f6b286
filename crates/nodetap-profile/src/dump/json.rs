//! A dump for programs: one JSON object.

use std::io::{self, Write};

use super::Dump;

/// Writes all of the dump.
pub fn write(dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, dump)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::super::testing::dump;
    use super::*;

    #[test]
    fn what_is_unknown_is_absent() {
        let mut dump = dump();
        dump.node = None;
        let mut json = Vec::new();
        write(&dump, &mut json).unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            concat!(
                r#"{"pid":7,"v8":"13.6.233.17-node.53","command":["node","a\nb.js"],"sampler":"ptrace","threads":["#,
                r#"{"tid":7,"name":"node","complete":true,"frames":["#,
                r#"{"kind":"js","function":"inner","file":"/srv/app.js","line":12,"column":7,"function_line":10,"function_column":1,"tier":"optimized","inlined":true},"#,
                r#"{"kind":"builtin","function":"Array.prototype.map","inlined":false},"#,
                r#"{"kind":"js","function":"inner","file":"/srv/app.js","function_line":10,"function_column":1,"tier":"interpreted","inlined":false},"#,
                r#"{"kind":"native","function":"node::Start","file":"/usr/bin/node","inlined":false}]},"#,
                r#"{"tid":8,"name":"say \"\u001b","complete":false,"frames":[{"kind":"native","function":"node::Start","file":"/usr/bin/node","inlined":false}]},"#,
                r#"{"tid":9,"name":"","complete":false,"frames":[]}]}"#,
                "\n"
            )
        );
    }
}
