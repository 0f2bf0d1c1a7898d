//! The direction of imports: down the layers, to no sibling stage, in no circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::{code, is_test, root, sources};

/// Modules of layer 1 and below, and the layer of each.
const LAYERS: [(&str, u32); 31] = [
    ("cli", 8),
    ("service", 7),
    ("http", 6),
    ("queries", 5),
    ("recovery", 5),
    ("pipeline", 5),
    ("protocol", 3),
    ("api", 2),
    ("exec", 3),
    ("hooks", 3),
    ("source", 2),
    ("sink", 2),
    ("config", 1),
    ("sandbox", 1),
    ("fs", 1),
    ("ledger", 1),
    ("observe", 1),
    ("error", 0),
    ("failpoint", 0),
    ("fingerprint", 0),
    ("limits", 0),
    ("display_path", 0),
    ("outcome", 0),
    ("page_cache", 0),
    ("patience", 0),
    ("phase", 0),
    ("policy", 0),
    ("reason", 0),
    ("stage", 0),
    ("sync", 0),
    ("transforms", 0),
];
/// Within `pipeline`: stages are of layer 4, what they share of layer 3.
const STAGES: [&str; 8] =
    ["discover", "settle", "claim", "read", "transform", "write", "commit", "dispose"];

fn layer(module: &str) -> Option<u32> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The code of a file, without its comments and its own tests.
fn without_comments(text: &str) -> String {
    let lines = code(text).lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The paths of a tree of imports.
fn paths_of(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let mut depth = 0_usize;
    let ends_item = |letter: char| {
        depth = match letter {
            '{' => depth + 1,
            '}' => depth.saturating_sub(1),
            _ => depth,
        };
        letter == ',' && depth == 0
    };
    for item in tree.split(ends_item).map(str::trim).filter(|item| !item.is_empty()) {
        match item.split_once('{') {
            Some((parent, group)) => {
                let group = group.strip_suffix('}').expect("the end of a group");
                paths_of(&format!("{prefix}{parent}"), group, found);
            }
            None => found.push(format!("{prefix}{item}")),
        }
    }
}

/// The paths in a text that begin with this.
fn paths_from<'a>(text: &'a str, begin: &str) -> impl Iterator<Item = &'a str> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let begins = text.match_indices(begin).filter_map(move |(at, _)| text.split_at_checked(at));
    let whole = begins.filter(move |(before, _)| !before.ends_with(is_part));
    whole.map(move |(_, path)| {
        let end = path.find(|letter| !is_part(letter)).unwrap_or(path.len());
        path.split_at(end).0.trim_end_matches(':')
    })
}

/// The paths that a file names: those of its imports, and those that begin with `crate` or `super`.
fn named_paths(text: &str) -> Vec<String> {
    const USES: [&str; 4] = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((line, next)) = rest.split_once('\n') {
        let line = line.trim_start();
        if USES.iter().any(|begin| line.starts_with(begin)) {
            let import = rest.split(';').next().unwrap_or_default();
            let tree = import.split_once("use ").map_or("", |(_, tree)| tree);
            paths_of("", tree, &mut found);
        }
        rest = next;
    }
    // Paths that go on from an imported module.
    let imported: Vec<String> = found.clone();
    for path in imported {
        let (parent, module) = path.rsplit_once("::").unwrap_or(("", &path));
        for inner in paths_from(text, &format!("{module}::")) {
            found.push(format!("{parent}::{inner}"));
        }
    }
    found.extend(paths_from(text, "crate::").map(str::to_owned));
    found.extend(paths_from(text, "super::").map(str::to_owned));
    found
}

/// The modules of the crate that a file names after `crate::`.
fn imports(text: &str) -> BTreeSet<String> {
    let paths = named_paths(&without_comments(text)).into_iter();
    let module = |path: String| Some(path.strip_prefix("crate::")?.split("::").next()?.to_owned());
    paths.filter_map(module).collect()
}

#[test]
fn imports_point_down_only() {
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        let module = path.split(['/', '.']).next().expect("a first part");
        if ["lib", "main", "lifecycle"].contains(&module) {
            continue;
        }
        let own = layer(module).unwrap_or_else(|| panic!("{path} has no layer"));
        for import in imports(text) {
            let Some(other) = layer(&import) else { continue };
            // Layer 0 is one set of words.
            let is_equal = own == other && own == 0;
            assert!(import == module || other < own || is_equal, "{path} imports {import}");
        }
    }
}

/// The layer of a module of `pipeline`: what assembles the stages, the stages, and what they share.
fn layer_in_pipeline(module: &str) -> u32 {
    match module {
        "mod" | "wiring" | "start" | "intake_set" | "stream_lane" | "kernel_copy" => 5,
        "intake" | "process" | "publish" => 4,
        _ => 3,
    }
}

#[test]
fn imports_within_the_pipeline_point_down_only() {
    let mut count = 0;
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        let Some(module) = path.strip_prefix("pipeline/") else { continue };
        let own = layer_in_pipeline(module.split(['/', '.']).next().expect("a first part"));
        let is_at_the_top = !module.contains('/');
        for used in named_paths(&without_comments(text)) {
            let below = used.strip_prefix("crate::pipeline::");
            let below = below.or_else(|| used.strip_prefix("super::").filter(|_| is_at_the_top));
            let Some(other) = below.and_then(|below| below.split("::").next()) else { continue };
            assert!(layer_in_pipeline(other) <= own, "{path} imports {used}");
            count += 1;
        }
    }
    assert!(count > 150, "{count} imports were read");
}

/// `tidemill-lifecycle` is for other services too, and what the layers below 3 share needs no start and stop.
#[test]
fn the_lifecycle_uses_nothing_of_tidemill_and_the_lowest_layers_nothing_of_it() {
    let mut count = 0;
    for (path, text) in sources() {
        if path.starts_with("lifecycle/") {
            assert!(!text.contains("tidemill::"), "{path} names tidemill");
            // Its files name one another by `super::`, where circles are found.
            assert!(is_test(&path) || imports(&text).is_empty(), "{path} names `crate::`");
            count += 1;
        } else if path.split(['/', '.']).next().and_then(layer).is_some_and(|layer| layer < 3) {
            assert!(!text.contains("tidemill_lifecycle"), "{path} names the lifecycle");
        }
    }
    assert!(count > 8, "{count} files of the lifecycle were read");
    let manifest = fs::read_to_string(root().join("src/lifecycle/Cargo.toml")).expect("read");
    let names = manifest.lines().filter(|line| line.starts_with("tidemill"));
    assert_eq!(names.count(), 0, "the lifecycle depends on tidemill");
}

#[test]
fn sibling_stages_never_import_one_another() {
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        let Some(stage) = STAGES.iter().find(|stage| {
            path.split(['/', '.']).any(|part| part == **stage) && path.starts_with("pipeline/")
        }) else {
            continue;
        };
        for other in STAGES.iter().filter(|other| *other != stage) {
            let named = code(text).lines().filter(|line| !line.trim_start().starts_with("//"));
            let mut named = named.filter(|line| {
                [
                    format!("intake::{other}"),
                    format!("process::{other}"),
                    format!("publish::{other}"),
                ]
                .iter()
                .any(|name| line.contains(name.as_str()))
            });
            assert_eq!(named.next(), None, "{path} is {stage} and names {other}");
        }
    }
}

/// The modules of the crate by their paths, such as `fs::dir`, each with its code.
struct Modules(BTreeMap<String, String>);

impl Modules {
    fn read() -> Self {
        let of_crate = |path: &str| !is_test(path) && !path.starts_with("lifecycle/");
        let module = |(path, text): (String, String)| {
            let path = path.strip_suffix(".rs").expect("a source file");
            let path = path.strip_suffix("/mod").unwrap_or(path).replace('/', "::");
            (path, without_comments(&text))
        };
        let files = sources().into_iter().filter(|(path, _)| of_crate(path));
        Self(files.map(module).collect())
    }

    /// The path that a module passes an item on from, if it does.
    fn passed_on(&self, module: &str, item: &str) -> Option<String> {
        let text = self.0.get(module)?;
        let mut paths = Vec::new();
        for part in text.split("\npub").skip(1) {
            let part =
                part.strip_prefix("(crate)").or(part.strip_prefix("(super)")).unwrap_or(part);
            if let Some(tree) = part.strip_prefix(" use ").and_then(|rest| rest.split(';').next()) {
                paths_of("", tree, &mut paths);
            }
        }
        let names_it = |path: &&String| path.rsplit([' ', ':']).next() == Some(item);
        let path = paths.iter().find(names_it)?.split(' ').next()?;
        Some(path.strip_prefix("self::").unwrap_or(path).to_owned())
    }

    /// The module in which the item of this path is defined.
    fn home(&self, path: &str) -> Option<String> {
        let mut module = String::new();
        for part in path.split("::") {
            let inner =
                if module.is_empty() { part.to_owned() } else { format!("{module}::{part}") };
            if self.0.contains_key(&inner) {
                module = inner;
                continue;
            }
            let from = self.passed_on(&module, part);
            return match from.map(|from| {
                from.strip_prefix("crate::")
                    .map_or_else(|| format!("{module}::{from}"), str::to_owned)
            }) {
                Some(from) if from != path => self.home(&from),
                _ => Some(module),
            };
        }
        Some(module)
    }

    /// The modules that a module names, without those above it and below it.
    fn named_by(&self, module: &str, text: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for path in named_paths(text) {
            let mut base: Vec<&str> = module.split("::").collect();
            let mut path = path.as_str();
            if let Some(rest) = path.strip_prefix("crate::") {
                (base, path) = (Vec::new(), rest);
            } else if path.starts_with("super::") || path.starts_with("self::") {
                while let Some(rest) = path.strip_prefix("super::") {
                    base.pop();
                    path = rest;
                }
                path = path.strip_prefix("self::").unwrap_or(path);
            } else {
                continue;
            }
            base.extend(path.split("::"));
            let is_within =
                |one: &str, other: &str| format!("{one}::").starts_with(&format!("{other}::"));
            let home = self.home(&base.join("::")).filter(|home| !home.is_empty());
            found.extend(home.filter(|home| !is_within(home, module) && !is_within(module, home)));
        }
        found
    }
}

/// Of two files at most one names the other, however long the way, and whether it names the file or what
/// another module passes on of it. What a module has below it extends it: these name one another.
#[test]
fn no_files_name_one_another_in_a_circle() {
    let modules = Modules::read();
    let mut left: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (module, text) in
        modules.0.iter().filter(|(module, _)| *module != "lib" && *module != "main")
    {
        left.insert(module, modules.named_by(module, text));
    }
    let edges: usize = left.values().map(BTreeSet::len).sum();
    // A file that names none of the rest is in no circle, and neither is one that none of the rest names.
    loop {
        let free = left.iter().find(|(module, named)| {
            named.iter().all(|other| !left.contains_key(other.as_str()))
                || !left.values().any(|named| named.contains(**module))
        });
        let Some(free) = free.map(|(module, _)| *module) else { break };
        left.remove(free);
    }
    assert!(left.is_empty(), "a circle: {left:#?}");
    assert!(edges > 500, "{edges} imports between files were read");
}
