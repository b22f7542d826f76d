//! The documentation holds: links resolve, configurations in it are accepted, and every key is documented.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use lbx::config;

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
    let keys = message.split_once("known here are ").map(|(_, keys)| keys);
    let keys = keys.unwrap_or_else(|| panic!("no list of keys: {message}"));
    keys.split(", ").map(|key| key.trim().to_owned()).collect()
}

/// A service with something in it.
fn service(inside: &str) -> String {
    format!("interface: eth0\nservices:\n  - {{ vip: 192.0.2.1, port: 80, realservers: [10.0.0.1], {inside} }}\n")
}

#[test]
fn every_key_is_documented_and_every_documented_key_is_accepted() {
    let mappings = [
        ("", "nonsense: 1\ninterface: eth0\nservices: []\n".to_owned()),
        ("timeouts.", "interface: eth0\ntimeouts: { nonsense: 1 }\n".to_owned()),
        ("tables.", "interface: eth0\ntables: { nonsense: 1 }\n".to_owned()),
        ("services[].", service("nonsense: 1")),
        ("persistence.", service("persistence: { nonsense: 1 }")),
        (
            "realservers[].",
            "interface: eth0\nservices:\n  - { vip: 192.0.2.1, port: 80, realservers: [{ nonsense: 1 }] }\n".to_owned(),
        ),
        ("damping.", service("health: { tcp: {}, damping: { nonsense: 1 } }")),
        ("http.", service("health: { http: { nonsense: 1 } }")),
        ("dns.", service("health: { dns: { nonsense: 1 } }")),
        ("udp.", service("health: { udp: { nonsense: 1 } }")),
        ("exec.", service("health: { exec: { nonsense: 1 } }")),
    ];
    let rows = |page: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(root().join("docs").join(page)).expect("a page");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect()
    };
    let documented: BTreeSet<String> = &rows("configuration.md") | &rows("health.md");
    for (prefix, text) in &mappings {
        let known = known_keys(text);
        for key in &known {
            // The mappings themselves are documented by their keys.
            if !["timeouts", "tables"].contains(&key.as_str()) {
                assert!(
                    documented.contains(&format!("{prefix}{key}")),
                    "{prefix}{key} is not documented"
                );
            }
        }
        let of_mapping = documented.iter().filter_map(|key| key.strip_prefix(prefix));
        for key in of_mapping.filter(|key| !prefix.is_empty() && !key.contains('.') && !key.contains('…')) {
            assert!(
                known.iter().any(|known| known == key),
                "{prefix}{key} is documented and not known"
            );
        }
    }
}
