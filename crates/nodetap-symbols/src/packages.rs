//! Which npm package a script is of.
//!
//! - Of what was installed, the path says it: behind the last `node_modules/` stands the
//!   package, also where pnpm has put it (`.pnpm/x@1.2.3/node_modules/x`). Name and
//!   version are those of its `package.json`; where that is missing, of the path.
//! - Yarn keeps packages in zip files, which are not looked into: their names say what is
//!   in them, `.yarn/cache/x-npm-1.2.3-0123456789-8.zip/node_modules/x`. Paths through
//!   `__virtual__` lead to such, or to a workspace.
//! - All else is the program's own: of the nearest folder above with a `package.json`
//!   that has a name. In a workspace that is the workspace's.
//! - Of a source that a bundle was made of, its own path decides, as far as it leads
//!   anywhere; the rest is looked for beside the bundle.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodetap_profile::Package;
use nodetap_sampler::root::{Root, RootIdentity};
use serde::Deserialize;

/// The largest `package.json` that is read.
const MAX_FILE: u64 = 4 << 20;

/// The longest name or version that is believed; npm allows 214 characters.
const MAX_TEXT: usize = 256;

/// How many folders are looked at for one file.
const MAX_FOLDERS: usize = 128;

/// How often a path may lead to a virtual one.
const MAX_VIRTUAL: usize = 8;

const NODE_MODULES: &str = "/node_modules/";

/// The packages of all processes.
#[derive(Debug, Default)]
pub struct Packages {
    /// What the `package.json` of a folder says, if there is one.
    manifests: HashMap<(RootIdentity, PathBuf), Option<Manifest>>,
    /// What was found for a file.
    found: HashMap<FileIdentity, Option<Arc<Package>>>,
    /// Each package once.
    packages: HashMap<Package, Arc<Package>>,
}

/// Where it is, what it is called, and what was made of it.
type FileIdentity = (Option<RootIdentity>, Option<Arc<str>>, Option<Arc<str>>);

/// What of a `package.json` matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Manifest {
    name: Option<Arc<str>>,
    version: Option<Arc<str>>,
}

/// A package that was installed, as a path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Installed<'a> {
    name: &'a str,
    /// Where yarn says it.
    version: Option<&'a str>,
    /// The path of its folder.
    folder: &'a str,
}

impl Packages {
    /// The package of `source`, a path or URL, which the script in the file `generated`
    /// was made of, or is.
    pub fn of(
        &mut self,
        root: Option<&Root>,
        source: Option<&Arc<str>>,
        generated: Option<&Arc<str>>,
    ) -> Option<Arc<Package>> {
        let key = (
            root.map(Root::identity),
            source.cloned(),
            generated.cloned(),
        );
        if let Some(known) = self.found.get(&key) {
            return known.clone();
        }
        let found = self.find(root, source.map(|it| &**it), generated.map(|it| &**it));
        let found = found.map(|package| {
            let known = self.packages.entry(package.clone());
            known.or_insert_with(|| Arc::new(package)).clone()
        });
        self.found.insert(key, found.clone());
        found
    }

    fn find(
        &mut self,
        root: Option<&Root>,
        source: Option<&str>,
        generated: Option<&str>,
    ) -> Option<Package> {
        let own = generated.and_then(file_path);
        let Some(source) = source else {
            return self.own(root, own?);
        };
        let Some(path) = file_path(source) else {
            // A bundler's own name for a path in the project that it bundled.
            let (_, path) = source.split_once("://")?;
            if source.starts_with("node:") {
                return None;
            }
            return match Installed::of(path) {
                Some(installed) => Some(self.bundled(root, &installed, own.as_deref())),
                None => self.own(root, own?),
            };
        };
        let path = resolve_virtual(&path);
        match Installed::of(&path) {
            Some(installed) => {
                let folder = Path::new(installed.folder);
                let manifest = self.manifest(root, folder);
                Some(installed.package(manifest))
            }
            None => self.own(root, path),
        }
    }

    /// A package that a bundler has put into the file `own`, or a file near to that.
    fn bundled(
        &mut self,
        root: Option<&Root>,
        installed: &Installed<'_>,
        own: Option<&str>,
    ) -> Package {
        let inside = Path::new(installed.folder.trim_start_matches('/'));
        // From where node_modules is: what precedes it is the bundler's.
        let from_modules = installed.folder.find(NODE_MODULES);
        let from_modules = from_modules.map(|at| Path::new(&installed.folder[at + 1..]));
        let folders = own.map(Path::new).into_iter().flat_map(Path::ancestors);
        let mut manifest = None;
        for folder in folders.skip(1).take(MAX_FOLDERS) {
            manifest = [Some(inside), from_modules]
                .into_iter()
                .flatten()
                .find_map(|inside| self.manifest(root, &folder.join(inside)))
                // Another one of that name may be there as well.
                .filter(|manifest| manifest.name.as_deref() == Some(installed.name));
            if manifest.is_some() {
                break;
            }
        }
        installed.package(manifest)
    }

    /// The package that a file belongs to which was not installed.
    fn own(&mut self, root: Option<&Root>, path: String) -> Option<Package> {
        let folders = Path::new(&path).ancestors().skip(1).take(MAX_FOLDERS);
        for folder in folders {
            let manifest = self.manifest(root, folder);
            // Some only say what kind of modules there are.
            if let Some(Manifest {
                name: Some(name),
                version,
            }) = manifest
            {
                return Some(Package {
                    name,
                    version,
                    is_dependency: false,
                });
            }
        }
        None
    }

    fn manifest(&mut self, root: Option<&Root>, folder: &Path) -> Option<Manifest> {
        let root = root?;
        let key = (root.identity(), folder.to_owned());
        let known = self.manifests.entry(key);
        let known = known.or_insert_with(|| {
            let json = root.read(&folder.join("package.json"), MAX_FILE).ok()?;
            Manifest::parse(&json)
        });
        known.clone()
    }
}

impl Manifest {
    fn parse(json: &[u8]) -> Option<Manifest> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            name: serde_json::Value,
            #[serde(default)]
            version: serde_json::Value,
        }
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
        let raw: Raw = serde_json::from_slice(json).ok()?;
        let text = |value: &serde_json::Value| {
            let text = value.as_str()?;
            (1..=MAX_TEXT).contains(&text.len()).then(|| text.into())
        };
        Some(Manifest {
            name: text(&raw.name),
            version: text(&raw.version),
        })
    }
}

impl<'a> Installed<'a> {
    /// What was installed that `path` is in.
    fn of(path: &'a str) -> Option<Installed<'a>> {
        // A bundler's path may begin with it.
        let start = match path.rfind(NODE_MODULES) {
            Some(at) => at + NODE_MODULES.len(),
            None if path.starts_with(&NODE_MODULES[1..]) => NODE_MODULES.len() - 1,
            None => return None,
        };
        let inside = &path[start..];
        let mut parts = inside.split('/');
        let first = parts.next()?;
        let length = match first.starts_with('@') {
            true => first.len() + 1 + parts.next().filter(|name| !name.is_empty())?.len(),
            false => first.len(),
        };
        // A file, or what is no package's name.
        let name = inside.get(..length)?;
        let is_in_it = inside.as_bytes().get(length) == Some(&b'/');
        if !is_in_it || name.is_empty() || name.starts_with('.') || name.len() > MAX_TEXT {
            return None;
        }
        let modules = &path[..start].trim_end_matches('/');
        Some(Installed {
            name,
            version: yarn_version(modules),
            folder: &path[..start + length],
        })
    }

    fn package(&self, manifest: Option<Manifest>) -> Package {
        let Manifest { name, version } = manifest.unwrap_or_default();
        Package {
            // An alias is another's name for it.
            name: name.unwrap_or_else(|| self.name.into()),
            version: version.or_else(|| self.version.map(Into::into)),
            is_dependency: true,
        }
    }
}

/// The version that yarn has put into the name of the folder or zip file which holds
/// this `node_modules`: `lodash-npm-4.17.21-6382451519-10c0.zip`.
fn yarn_version(modules: &str) -> Option<&str> {
    let holder = modules.rsplit('/').nth(1)?;
    let (_, rest) = holder.rsplit_once("-npm-")?;
    let rest = rest.strip_suffix(".zip").unwrap_or(rest);
    // A hash of ten digits, and in a zip file's name another one or a key.
    let is_hash = |text: &str| text.len() == 10 && text.bytes().all(|it| it.is_ascii_hexdigit());
    let version = rest.match_indices('-').find_map(|(at, _)| {
        let hash = rest[at + 1..].split('-').next()?;
        is_hash(hash).then_some(&rest[..at])
    })?;
    version
        .starts_with(|first: char| first.is_ascii_digit())
        .then_some(version)
}

/// Where a path through yarn's `__virtual__` leads to.
fn resolve_virtual(path: &str) -> String {
    let mut path = path.to_owned();
    for _ in 0..MAX_VIRTUAL {
        match resolve_one_virtual(&path) {
            Some(resolved) => path = resolved,
            None => break,
        }
    }
    path
}

/// `/a/b/__virtual__/x-virtual-0123456789/1/c` is `/a/c`: so many folders above the one
/// that holds `__virtual__`.
fn resolve_one_virtual(path: &str) -> Option<String> {
    let (before, rest) = ["/__virtual__/", "/$$virtual/"]
        .iter()
        .find_map(|name| path.split_once(name))?;
    let mut parts = rest.splitn(3, '/');
    let (_hash, depth, inside) = (parts.next()?, parts.next()?, parts.next()?);
    let depth: usize = depth.parse().ok().filter(|&depth| depth <= MAX_FOLDERS)?;
    let holder = Path::new(before).ancestors().nth(depth)?;
    Some(holder.join(inside).to_str()?.to_owned())
}

/// The path of a file; `None` of what has none.
fn file_path(file: &str) -> Option<String> {
    let path = file.strip_prefix("file://").unwrap_or(file);
    path.starts_with('/').then(|| path.to_owned())
}

#[cfg(test)]
mod tests;
