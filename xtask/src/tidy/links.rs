//! Relative links of Markdown pages lead somewhere.

use super::SourceFile;

/// Where a link leads, without its fragment, and the line it stands on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) path: &'a str,
    pub(super) line: usize,
}

pub(super) fn violations(files: &[SourceFile], exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files {
        let Some(text) = file.text_of(".md") else { continue };
        for target in targets(text).filter(|target| is_relative(target.path)) {
            let resolved = resolve(&file.path, target.path);
            if !resolved.as_deref().is_some_and(exists) {
                violations.push(format!("{}:{}: nothing is at {}", file.path, target.line, target.path));
            }
        }
    }
    violations
}

/// The targets of `[text](target)` and `[name]: target`, outside code.
pub(super) fn targets(text: &str) -> impl Iterator<Item = Target<'_>> {
    let mut in_code = false;
    text.lines().enumerate().flat_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
        in_code ^= fence;
        let found = if in_code || fence { Vec::new() } else { targets_of_line(line) };
        found.into_iter().map(move |path| Target { path, line: number + 1 })
    })
}

fn targets_of_line(line: &str) -> Vec<&str> {
    // Every second piece lies between backticks. A link's text may be code: its target then opens the piece after it.
    let mut found: Vec<&str> = line
        .split('`')
        .step_by(2)
        .flat_map(|prose| prose.split("](").skip(1))
        .filter_map(|rest| rest.split([')', ' ']).next())
        .collect();
    if let Some((_, definition)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
        found.extend(definition.split_whitespace().next());
    }
    for target in &mut found {
        *target = target.split('#').next().unwrap_or_default();
    }
    found
}

/// Neither an address, nor a place on the same page, nor an item of rustdoc.
fn is_relative(target: &str) -> bool {
    let scheme = target.contains("://") || target.starts_with("mailto:") || target.starts_with('<');
    let rustdoc = target.contains("::") || !target.contains(['.', '/', '-']);
    !target.is_empty() && !scheme && !rustdoc
}

/// The path from the root of what `target` means on the page `from`; nothing if it leaves the project.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(page: &str, text: &str) -> Vec<String> {
        let there = ["README.md", "LICENSE-MIT", "docs/src/start.md", "docs/src/decisions/why.md"];
        violations(&[SourceFile::new(page, text)], &|path| there.contains(&path))
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let text = "[a](../start.md#top) and [`b`](./why.md \"title\"), [c](https://example.com/x), [d](#here)\n\
                    [e]: ../../../LICENSE-MIT\n[`f`](crate::Order) [g](Order)\n";
        assert_eq!(check("docs/src/decisions/why.md", text), [""; 0]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named_with_its_line() {
        assert_eq!(check("README.md", "\nsee [x](docs/gone.md)."), ["README.md:2: nothing is at docs/gone.md"]);
        assert_eq!(check("README.md", "[`x`](gone.md)"), ["README.md:1: nothing is at gone.md"]);
        assert_eq!(check("README.md", "[x]: LICENSE-GPL"), ["README.md:1: nothing is at LICENSE-GPL"]);
        assert_eq!(check("README.md", "[x](../outside.md)"), ["README.md:1: nothing is at ../outside.md"]);
    }

    #[test]
    fn code_is_not_read() {
        assert_eq!(check("README.md", "```\n[x](gone.md)\n```\nand `[x](gone.md)`"), [""; 0]);
    }
}
