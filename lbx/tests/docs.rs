//! The documentation holds: links resolve, configurations in it are accepted, and every key is documented.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use lbx::{config, dataplane::memory, desired::TableSizes};

/// The front page fits on a few screens.
const README_LINES: usize = 150;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every page, by its path from the root.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        .map(PathBuf::from)
        .into();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder of pages") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    let read = |page: PathBuf| {
        let text = fs::read_to_string(root().join(&page)).expect("a page");
        (page, text)
    };
    pages.into_iter().map(read).collect()
}

/// The lines of a page that are not in fenced or indented code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence && !line.starts_with("    ")
    })
}

/// The anchors of a page's headings, as a web view of the repository makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let slug = |line: &str| {
        let heading = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        heading
            .chars()
            .filter(|c| c.is_alphanumeric() || "-_".contains(*c))
            .collect()
    };
    headings.map(slug).collect()
}

/// The targets of a page's links.
fn links(text: &str) -> Vec<String> {
    let text: String = prose(text).map(|line| format!("{line} ")).collect();
    text.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .collect()
}

#[test]
fn the_front_page_is_short() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a front page");
    let lines = readme.lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines");
}

#[test]
fn links_resolve() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for (page, text) in pages() {
        let folder = page.parent().expect("a folder").to_owned();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            checked += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() {
                page.clone()
            } else {
                folder.join(path)
            };
            let target = root().join(target);
            if !target.exists() {
                broken.push(format!("{}: {link}: no such file", page.display()));
            } else if !anchor.is_empty() {
                let there = fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor));
                if !there {
                    broken.push(format!("{}: {link}: no such heading", page.display()));
                }
            }
        }
    }
    assert!(checked > 30, "only {checked} links were found");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Commands with a prompt are in `console` blocks, which the lab runs and compares.
#[test]
fn commands_are_in_blocks_that_are_run() {
    let is_command = |line: &str| {
        let (host, rest) = line.trim_start().split_once('$').unwrap_or(("-", ""));
        rest.starts_with(' ')
            && host
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let mut stray = Vec::new();
    for (page, text) in pages() {
        let mut fence = "";
        for (index, line) in text.lines().enumerate() {
            match line.strip_prefix("```") {
                Some(kind) => fence = kind,
                None if fence != "console" && is_command(line) => {
                    stray.push(format!("{}:{}: {line}", page.display(), index + 1));
                }
                None => {}
            }
        }
    }
    assert!(stray.is_empty(), "{stray:#?}");
}

/// The fenced YAML blocks of a page that are whole configurations.
fn configurations(text: &str) -> Vec<&str> {
    let blocks = text.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|rest| Some(rest.split_once("```")?.0));
    blocks
        .filter(|block| block.lines().any(|line| line == "services:"))
        .collect()
}

#[test]
fn configurations_are_accepted() {
    let mut checked = 0;
    for (page, text) in pages() {
        for block in configurations(&text) {
            checked += 1;
            if let Err(error) = config::parse(block, &page) {
                panic!("{}: {error}\n{block}", page.display());
            }
        }
    }
    assert!(checked >= 2, "only {checked} configurations were found");
}

/// Keys that the parser knows, by the mapping they stand in: it lists them when it refuses another.
fn known_keys(text: &str) -> Vec<String> {
    let error = config::parse(text, Path::new("lb.yaml")).expect_err("an unknown key is refused");
    let message = error.to_string();
    let mut lines = message.lines().filter(|line| line.contains("nonsense: unknown field"));
    let keys = lines
        .next()
        .and_then(|line| Some(line.split_once("known here are ")?.1));
    let keys = keys.unwrap_or_else(|| panic!("no list of keys: {message}"));
    keys.split(", ").map(|key| key.trim().to_owned()).collect()
}

/// A service with something in it.
fn service(inside: &str) -> String {
    format!("interface: eth0\nservices:\n  - {{ vip: 192.0.2.1, port: 80, realservers: [10.0.0.1], {inside} }}\n")
}

/// The keys in the tables of a page whose first column is headed «key».
fn documented_keys(page: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs").join(page)).expect("a page");
    let mut keys = BTreeSet::new();
    let mut of_keys = false;
    for line in text.lines() {
        of_keys = line.starts_with("| key |") || (of_keys && line.starts_with('|'));
        let key = line.strip_prefix("| `").and_then(|row| Some(row.split_once('`')?.0));
        keys.extend(key.filter(|_| of_keys).map(str::to_owned));
    }
    // A row that stands for those of another mapping.
    keys.retain(|key| !key.contains('…'));
    keys
}

#[test]
fn every_key_is_documented_and_every_documented_key_is_accepted() {
    let of_service = |inside: &str| known_keys(&service(inside));
    let of_check = |check: &str| of_service(&format!("health: {{ {check}: {{ nonsense: 1 }} }}"));
    let mappings = [
        ("timeouts.", known_keys("interface: eth0\ntimeouts: { nonsense: 1 }\n")),
        ("tables.", known_keys("interface: eth0\ntables: { nonsense: 1 }\n")),
        ("services[].", of_service("nonsense: 1")),
        ("persistence.", of_service("persistence: { nonsense: 1 }")),
        (
            "realservers[].",
            known_keys(
                "interface: eth0\nservices:\n  - { vip: 192.0.2.1, port: 80, realservers: [{ nonsense: 1 }] }\n",
            ),
        ),
        ("damping.", of_service("health: { tcp: {}, damping: { nonsense: 1 } }")),
        ("http.", of_check("http")),
        ("https.", of_check("https")),
        ("dns.", of_check("dns")),
        ("udp.", of_check("udp")),
        ("exec.", of_check("exec")),
    ];
    let at_top = known_keys("nonsense: 1\ninterface: eth0\nservices: []\n");
    let of_health = of_service("health: { tcp: {}, nonsense: 1 }");
    let (configuration, health) = (documented_keys("configuration.md"), documented_keys("health.md"));
    // Every documented key is known where it says that it stands.
    for (page, keys, plain) in [
        ("configuration.md", &configuration, &at_top),
        ("health.md", &health, &of_health),
    ] {
        assert!(keys.len() > 20, "only {} keys in {page}", keys.len());
        for key in keys {
            let mapping = mappings
                .iter()
                .find_map(|(prefix, known)| Some((key.strip_prefix(prefix)?, known)));
            let (name, known) = mapping.unwrap_or((key, plain));
            assert!(
                known.iter().any(|known| known == name),
                "{page}: {key} is documented and not known"
            );
        }
    }
    // Every known key is documented. Mappings are documented by their keys, and https has all of http.
    let documented: BTreeSet<&str> = configuration.iter().chain(&health).map(String::as_str).collect();
    let is_documented = |key: &str| {
        let within = format!("{key}.");
        documented.contains(key) || documented.iter().any(|other| other.starts_with(&within))
    };
    let plain = at_top.iter().chain(&of_health).cloned();
    let in_mappings = mappings
        .iter()
        .flat_map(|(prefix, known)| known.iter().map(move |key| format!("{prefix}{key}")));
    for key in plain.chain(in_mappings) {
        let of_http = key.strip_prefix("https.").map(|name| format!("http.{name}"));
        let check = ["tcp", "ping"].contains(&key.as_str());
        let found = is_documented(&key) || of_http.is_some_and(|key| is_documented(&key)) || check;
        assert!(found, "{key} is not documented");
    }
}

/// Entries and memory of the maps are stated for two CPUs.
#[test]
fn sizes_are_those_of_the_maps() {
    let usage = memory::map_memory(&TableSizes::default(), 2);
    let all: u64 = usage.iter().map(|usage| usage.bytes).sum();
    let all = format!("{:.1} MiB", all as f64 / f64::from(1 << 20));
    for page in ["getting-started.md", "commands.md"] {
        let text = fs::read_to_string(root().join("docs").join(page)).expect("a page");
        assert!(text.contains(&all), "docs/{page} does not say {all}");
    }
    let tables = fs::read_to_string(root().join("docs/architecture/tables.md")).expect("a page");
    let (_, tables) = tables.split_once("\n| map | type |").expect("a table of maps");
    let (tables, _) = tables.split_once("\n\n").expect("an end of the table");
    let mut rows = 0;
    for line in tables.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`');
        let Some(map) = usage.iter().find(|usage| usage.map == name) else {
            panic!("docs/architecture/tables.md has {name}, and there is no such map");
        };
        rows += 1;
        let stated: Vec<_> = cells[6].split(' ').collect();
        let bytes = match stated[..] {
            [number, "MiB"] => number.parse::<u64>().expect("a number") << 20,
            [number, "KiB"] => number.parse::<u64>().expect("a number") << 10,
            _ => continue,
        };
        assert_eq!(map.bytes, bytes, "{name}");
    }
    assert_eq!(rows, usage.len(), "every map has a row");
}
