use std::fs;
use std::os::unix::fs::symlink;

use nodetap_sampler::source::Source;
use tempfile::TempDir;

use super::*;

struct Files {
    folder: TempDir,
    root: Root,
    packages: Packages,
}

impl Files {
    /// Folders with such `package.json`s.
    fn new(manifests: &[(&str, &str)]) -> Files {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, manifest) in manifests {
            let inside = folder.path().join(name);
            fs::create_dir_all(&inside).expect("a folder");
            fs::write(inside.join("package.json"), manifest).expect("written");
        }
        Files {
            folder,
            root: Root::of(&Source::from(std::process::id())).expect("our own files"),
            packages: Packages::default(),
        }
    }

    fn path(&self, name: &str) -> Arc<str> {
        let path = self.folder.path().join(name);
        path.to_str().expect("UTF-8").into()
    }

    /// What a file is of: `x@1.2.3`, own code in parentheses.
    fn of(&mut self, file: &str) -> Option<String> {
        let file = self.path(file);
        self.of_source(&file, &file)
    }

    fn of_source(&mut self, source: &str, generated: &str) -> Option<String> {
        let root = Some(&self.root);
        let found = self
            .packages
            .of(root, Some(&source.into()), Some(&generated.into()))?;
        Some(match found.is_dependency {
            true => found.label(),
            false => format!("({})", found.label()),
        })
    }

    /// The same of what a bundle was made of.
    fn bundled(&mut self, source: &str, bundle: &str) -> Option<String> {
        let bundle = self.path(bundle);
        self.of_source(source, &bundle)
    }
}

fn told(label: &str) -> Option<String> {
    Some(label.to_owned())
}

#[test]
fn what_npm_installs() {
    let mut files = Files::new(&[
        ("app", r#"{"name": "app", "version": "0.1.0"}"#),
        ("app/node_modules/x", r#"{"name": "x", "version": "1.2.3"}"#),
        ("app/node_modules/x/dist/esm", r#"{"type": "module"}"#),
        (
            "app/node_modules/x/sub",
            r#"{"name": "x/sub", "version": "9.9.9"}"#,
        ),
        (
            "app/node_modules/x/node_modules/y",
            r#"{"name": "y", "version": "2.0.0"}"#,
        ),
        ("app/node_modules/@s/z", r#"{"name": "@s/z"}"#),
        (
            "app/node_modules/alias",
            r#"{"name": "real", "version": "3.0.0"}"#,
        ),
        ("app/node_modules/broken", "{"),
    ]);
    for (file, package) in [
        ("app/index.js", "(app@0.1.0)"),
        ("app/src/deep/er/a.js", "(app@0.1.0)"),
        ("app/node_modules/x/index.js", "x@1.2.3"),
        ("app/node_modules/x/dist/esm/a.js", "x@1.2.3"),
        ("app/node_modules/x/sub/a.js", "x@1.2.3"),
        ("app/node_modules/x/node_modules/y/a.js", "y@2.0.0"),
        ("app/node_modules/@s/z/a/b.js", "@s/z"),
        ("app/node_modules/alias/a.js", "real@3.0.0"),
        ("app/node_modules/broken/a.js", "broken"),
        ("app/node_modules/gone/a.js", "gone"),
        ("app/node_modules/@s/gone/a.js", "@s/gone"),
    ] {
        assert_eq!(files.of(file), told(package), "{file}");
    }
    // No package is a file, or hidden.
    assert_eq!(files.of("app/node_modules/a.js"), told("(app@0.1.0)"));
    assert_eq!(
        files.of("app/node_modules/.cache/a.js"),
        told("(app@0.1.0)")
    );
}

#[test]
fn own_code_is_of_the_nearest_folder_that_has_a_name() {
    let mut files = Files::new(&[
        ("mono", r#"{"name": "mono", "private": true}"#),
        (
            "mono/packages/a",
            "\u{feff}{\"name\": \"@mono/a\", \"version\": \"1.0.0\"}",
        ),
        ("mono/packages/a/dist", r#"{"type": "commonjs"}"#),
        ("mono/packages/b", r#"{"name": "", "version": 7}"#),
        ("nameless", r#"{"type": "module"}"#),
    ]);
    assert_eq!(
        files.of("mono/packages/a/dist/x.js"),
        told("(@mono/a@1.0.0)")
    );
    assert_eq!(files.of("mono/packages/b/x.js"), told("(mono)"));
    assert_eq!(files.of("nameless/x.js"), None);
    assert_eq!(files.of("bare.js"), None);
}

#[test]
fn what_pnpm_installs() {
    let mut files = Files::new(&[
        ("app", r#"{"name": "app"}"#),
        ("app/packages/lib", r#"{"name": "lib", "version": "5.0.0"}"#),
        (
            "app/node_modules/.pnpm/x@1.2.3_y@2/node_modules/x",
            r#"{"name": "x", "version": "1.2.3"}"#,
        ),
        (
            "app/node_modules/.pnpm/@s+z@4.0.0/node_modules/@s/z",
            r#"{"name": "@s/z", "version": "4.0.0"}"#,
        ),
    ]);
    let store = files.path("app/node_modules/.pnpm/x@1.2.3_y@2/node_modules/x");
    symlink(&*store, &*files.path("app/node_modules/x")).expect("a link");
    symlink("../packages/lib", &*files.path("app/node_modules/lib")).expect("a link");
    for (file, package) in [
        (
            "app/node_modules/.pnpm/x@1.2.3_y@2/node_modules/x/a.js",
            "x@1.2.3",
        ),
        (
            "app/node_modules/.pnpm/@s+z@4.0.0/node_modules/@s/z/a.js",
            "@s/z@4.0.0",
        ),
        // Through the link, with --preserve-symlinks.
        ("app/node_modules/x/a.js", "x@1.2.3"),
        ("app/node_modules/lib/a.js", "lib@5.0.0"),
        // As Node.js calls it otherwise: the workspace's own.
        ("app/packages/lib/a.js", "(lib@5.0.0)"),
    ] {
        assert_eq!(files.of(file), told(package), "{file}");
    }
}

#[test]
fn what_yarn_keeps_in_zip_files() {
    let mut files = Files::new(&[
        ("app", r#"{"name": "app"}"#),
        ("app/packages/lib", r#"{"name": "lib"}"#),
        (
            "app/.yarn/unplugged/u-npm-1.0.0-0123456789/node_modules/u",
            r#"{"name": "u", "version": "1.0.0"}"#,
        ),
    ]);
    for (file, package) in [
        (
            "app/.yarn/cache/lodash-npm-4.17.21-6382451519-eb835a2e51.zip/node_modules/lodash/a.js",
            "lodash@4.17.21",
        ),
        (
            "app/.yarn/cache/@s-x-npm-1.0.0-rc.1-b4f6bcb8a3-10c0.zip/node_modules/@s/x/a/b.js",
            "@s/x@1.0.0-rc.1",
        ),
        (
            "app/.yarn/cache/fsevents-patch-19706e7e35-10.zip/node_modules/fsevents/a.js",
            "fsevents",
        ),
        (
            "app/.yarn/unplugged/u-npm-1.0.0-0123456789/node_modules/u/a.js",
            "u@1.0.0",
        ),
        (
            "app/.yarn/unplugged/v-npm-2.0.0-0123456789/node_modules/v/a.js",
            "v@2.0.0",
        ),
        (
            "app/.yarn/__virtual__/y-virtual-0a1b2c3d4e/0/cache/y-npm-3.1.0-6382451519-eb835a2e51.zip/node_modules/y/a.js",
            "y@3.1.0",
        ),
        (
            "app/.yarn/__virtual__/lib-virtual-0a1b2c3d4e/1/packages/lib/a.js",
            "(lib)",
        ),
    ] {
        assert_eq!(files.of(file), told(package), "{file}");
    }
}

#[test]
fn of_a_bundle_the_original_path_decides() {
    let mut files = Files::new(&[
        ("app", r#"{"name": "app", "version": "0.1.0"}"#),
        (
            "app/node_modules/lodash",
            r#"{"name": "lodash", "version": "4.17.21"}"#,
        ),
        (
            "app/node_modules/.pnpm/x@1/node_modules/x",
            r#"{"name": "x", "version": "1.0.0"}"#,
        ),
        (
            "app/node_modules/alias",
            r#"{"name": "real", "version": "3.0.0"}"#,
        ),
    ]);
    for (source, package) in [
        ("webpack://app/src/a.ts", "(app@0.1.0)"),
        ("webpack://app/node_modules/lodash/a.js", "lodash@4.17.21"),
        ("webpack:///node_modules/lodash/a.js", "lodash@4.17.21"),
        (
            "webpack://app/node_modules/.pnpm/x@1/node_modules/x/a.js",
            "x@1.0.0",
        ),
        ("webpack://app/node_modules/@s/gone/a.js", "@s/gone"),
        // What is there under that name is something else.
        ("webpack://app/node_modules/alias/a.js", "alias"),
    ] {
        assert_eq!(
            files.bundled(source, "app/dist/bundle.js"),
            told(package),
            "{source}"
        );
    }
    let source = files.path("app/node_modules/lodash/a.js");
    assert_eq!(
        files.bundled(&source, "elsewhere/bundle.js"),
        told("lodash@4.17.21")
    );
    for none in [
        "node:internal/fs",
        "fs.js",
        "evalmachine.<anonymous>",
        "[eval]",
    ] {
        assert_eq!(files.of_source(none, none), None, "{none}");
    }
}

#[test]
fn paths_that_make_no_sense_do_no_harm() {
    let mut files = Files::new(&[]);
    for path in [
        "/",
        "//",
        "/node_modules/",
        "/node_modules//a.js",
        "/node_modules/@",
        "/node_modules/@/a.js",
        "/node_modules/@s//a.js",
        "/node_modules/@s/",
        "/a/__virtual__/",
        "/a/__virtual__/x/99999999999999999999/b.js",
        "/a/__virtual__/x/7/b.js",
        "/a\0b/c.js",
        "://node_modules/",
        "x://",
    ] {
        assert_eq!(files.of_source(path, path), None, "{path}");
    }
    let long = format!("/node_modules/{}/a.js", "x".repeat(1 << 20));
    assert_eq!(files.of_source(&long, &long), None);
    let deep = "/x".repeat(1 << 16);
    assert_eq!(files.of_source(&deep, &deep), None);
}
