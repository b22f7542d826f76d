//! What a page has its reader type: files to write and commands to run, in the order of the page.

use anyhow::{Context as _, Result, bail};

/// A step of a page.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// A `yaml` block that begins with a comment with its name, such as `# lb.yaml`.
    File {
        /// Its name.
        name: String,
        /// All of it.
        text: String,
    },
    /// A command of a `console` block.
    Command(Command),
}

/// A command and what it prints.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// Its line in the page, from 1.
    pub line: usize,
    /// The host before the prompt; the director where there is none.
    pub host: String,
    /// The command, with its further lines.
    pub text: String,
    /// Lines that follow; `...` stands for any number of lines.
    pub expected: Vec<String>,
}

/// The steps of a page.
///
/// # Errors
/// A block does not end, or a `console` block does not begin with a prompt.
pub fn parts(page: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut lines = page.lines().enumerate().map(|(index, line)| (index + 1, line));
    while let Some((number, line)) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            continue;
        };
        let mut block = Vec::new();
        loop {
            match lines.next() {
                Some((_, "```")) => break,
                Some(line) => block.push(line),
                None => bail!("the block of line {number} does not end"),
            }
        }
        match kind {
            "yaml" => parts.extend(file(&block)),
            "console" => commands(&block, &mut parts).with_context(|| format!("line {number}"))?,
            _ => {}
        }
    }
    Ok(parts)
}

fn file(block: &[(usize, &str)]) -> Option<Part> {
    let name = block.first()?.1.strip_prefix("# ")?;
    name.ends_with(".yaml").then(|| Part::File {
        name: name.to_owned(),
        text: block.iter().map(|(_, line)| format!("{line}\n")).collect(),
    })
}

/// Host and command of a line with a prompt.
fn prompt(line: &str) -> Option<(&str, &str)> {
    let (host, command) = line.split_once("$ ")?;
    host.bytes()
        .all(|byte| byte.is_ascii_alphanumeric())
        .then_some((host, command))
}

/// In a block whose first prompt names no host, lines with a host's prompt are output.
fn commands(block: &[(usize, &str)], parts: &mut Vec<Part>) -> Result<()> {
    let (_, first) = block.first().context("an empty block")?;
    let (first, _) = prompt(first).context("a console block begins with a prompt: HOST$ or $")?;
    let mut current: Option<Command> = None;
    for &(line, text) in block {
        match (
            prompt(text).filter(|(host, _)| host.is_empty() == first.is_empty()),
            &mut current,
        ) {
            (Some((host, command)), _) => {
                let host = if host.is_empty() { "director" } else { host };
                let next = Command {
                    line,
                    host: host.to_owned(),
                    text: command.to_owned(),
                    expected: Vec::new(),
                };
                parts.extend(current.replace(next).map(Part::Command));
            }
            (None, Some(command)) => match text.strip_prefix("> ") {
                Some(more) if command.expected.is_empty() => {
                    command.text += "\n";
                    command.text += more;
                }
                _ => command.expected.push(text.to_owned()),
            },
            (None, None) => bail!("a line before the first prompt"),
        }
    }
    parts.extend(current.map(Part::Command));
    for part in parts {
        if let Part::Command(command) = part {
            // An empty line before the next prompt is for the eye.
            while command.expected.last().is_some_and(String::is_empty) {
                command.expected.pop();
            }
        }
    }
    Ok(())
}
