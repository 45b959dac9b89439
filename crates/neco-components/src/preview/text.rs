//! What changes between two texts.

use similar::TextDiff;

/// How many lines around a change are shown.
const CONTEXT: usize = 3;
/// More bytes than this of one file are not shown: nobody reads them, and they have to pass through etcd.
const LONGEST: usize = 16 << 10;

/// The changed lines as a unified diff without a head; cut at the end of a line where it is long, and that is said.
pub(super) fn unified(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let mut text = diff.unified_diff().context_radius(CONTEXT).to_string();
    if text.len() <= LONGEST {
        return text;
    }
    let lines = text.lines().count();
    let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let end = text[..end].rfind('\n').map_or(0, |at| at + 1);
    text.truncate(end);
    let left = lines - text.lines().count();
    text.push_str(&format!("({left} more lines)\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_lines_stand_among_their_neighbours() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let after = before.replace('8', "eight");
        assert_eq!(unified(before, &after), "@@ -5,5 +5,5 @@\n 5\n 6\n 7\n-8\n+eight\n 9\n");
        assert_eq!(unified("", "a\n"), "@@ -0,0 +1 @@\n+a\n");
        assert_eq!(unified("a\n", "a\n"), "");
    }

    #[test]
    fn what_is_long_is_cut_between_lines_and_says_so() {
        let after = "é\n".repeat(LONGEST);
        let text = unified("", &after);
        assert!(text.len() < LONGEST + 100, "{}", text.len());
        let (last, shown) = text.trim_end().rsplit_once('\n').map(|(a, b)| (b, a)).expect("lines");
        let left: usize = last
            .trim_start_matches('(')
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number");
        assert_eq!(shown.lines().count() + left, LONGEST + 1, "the head of the hunk and all lines");
    }
}
