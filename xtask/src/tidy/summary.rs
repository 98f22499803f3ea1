//! The book's table of contents names every page: mdBook silently leaves the others out.

use super::SourceFile;
use super::links::targets;

const PAGES: &str = "docs/src/";
const SUMMARY: &str = "docs/src/SUMMARY.md";

pub(super) fn violations(files: &[SourceFile]) -> Vec<String> {
    let mut pages = files.iter().filter_map(|file| file.path.strip_prefix(PAGES)).filter(|page| page.ends_with(".md"));
    let Some(summary) = files.iter().find(|file| file.path == SUMMARY) else {
        let missing = pages.next().map(|page| format!("{SUMMARY} is missing, though there are pages ({page})"));
        return missing.into_iter().collect();
    };
    let listed: Vec<&str> = targets(summary.text_of(".md").unwrap_or_default())
        .map(|target| target.path.strip_prefix("./").unwrap_or(target.path))
        .collect();
    pages
        .filter(|page| *page != "SUMMARY.md" && !listed.contains(page))
        .map(|page| format!("{PAGES}{page} is not listed in {SUMMARY}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_not_listed_is_named() {
        let files = [
            SourceFile::new(SUMMARY, "- [Start](./start.md)\n- [Why](decisions/why.md)\n"),
            SourceFile::new("docs/src/start.md", ""),
            SourceFile::new("docs/src/decisions/why.md", ""),
            SourceFile::new("docs/src/decisions/lost.md", ""),
        ];
        assert_eq!(violations(&files), ["docs/src/decisions/lost.md is not listed in docs/src/SUMMARY.md"]);
    }

    #[test]
    fn pages_without_a_table_of_contents_are_named() {
        assert_eq!(violations(&[SourceFile::new("docs/src/start.md", "")]).len(), 1);
    }

    #[test]
    fn no_book_needs_no_table_of_contents() {
        assert_eq!(violations(&[SourceFile::new("README.md", "")]), [""; 0]);
    }
}
