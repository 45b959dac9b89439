//! Templates that lead back to themselves.

use std::collections::{BTreeMap, BTreeSet};

/// So many of a circle are named.
const SHOWN: usize = 8;

/// Templates of which each extends, includes or imports the next, and the last one the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Circle<'t>(Vec<Link<'t>>);

/// One template asks for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link<'t> {
    from: &'t str,
    /// The line on which it does, counted from 1.
    line: usize,
    /// How it does, for people.
    verb: &'static str,
    to: &'t str,
}

impl Circle<'_> {
    /// The template whose name comes first.
    pub(crate) fn template(&self) -> &str {
        self.0[0].from
    }

    /// The line on which that template asks for the next.
    pub(crate) fn line(&self) -> usize {
        self.0[0].line
    }
}

impl std::fmt::Display for Circle<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, link) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}:{} {} {}", link.from, link.line, link.verb, link.to)?;
        }
        match self.0.len() {
            ..=SHOWN => Ok(()),
            all => write!(f, ", and so on, {all} templates in all"),
        }
    }
}

/// A circle that `start` leads to, as far as the templates name each other; whoever asks from elsewhere on the circle hears the
/// same.
pub(crate) fn first<'t>(texts: &'t BTreeMap<String, String>, start: &str) -> Option<Circle<'t>> {
    let (start, _) = texts.get_key_value(start)?;
    let mut seen = BTreeSet::from([start.as_str()]);
    // The way from the start, and what is still to be tried after each step of it.
    let mut way: Vec<Link<'t>> = Vec::new();
    let mut open = vec![links(texts, start)];
    while let Some(links_left) = open.last_mut() {
        let Some(link) = links_left.pop() else {
            open.pop();
            way.pop();
            continue;
        };
        way.push(link);
        if let Some(begin) = way.iter().position(|earlier| earlier.from == link.to) {
            let mut circle = way.split_off(begin);
            let first = (0..circle.len()).min_by_key(|&index| circle[index].from).unwrap_or(0);
            circle.rotate_left(first);
            return Some(Circle(circle));
        }
        match seen.insert(link.to) {
            true => open.push(links(texts, link.to)),
            false => drop(way.pop()),
        }
    }
    None
}

/// The templates that `from` asks for by name, the last one first.
fn links<'t>(texts: &'t BTreeMap<String, String>, from: &'t str) -> Vec<Link<'t>> {
    let mut links = Vec::new();
    let Some(text) = texts.get(from) else { return links };
    let mut at = 0;
    while let Some(begin) = text[at..].find("{%").map(|found| at + found) {
        // What a comment says is not done.
        if let Some(comment) = text[at..begin].find("{#").map(|found| at + found) {
            let Some(end) = text[comment..].find("#}") else { break };
            at = comment + end + 2;
            continue;
        }
        let Some(length) = text[begin..].find("%}") else { break };
        let tag = text[begin + 2..begin + length].trim_start_matches(['-', '+']).trim_start();
        at = begin + length + 2;
        let word = tag.split_whitespace().next().unwrap_or_default();
        let verb = match word {
            "extends" => "extends",
            "include" => "includes",
            "import" | "from" => "imports",
            _ => continue,
        };
        let line = text[..begin].matches('\n').count() + 1;
        for name in quoted(tag) {
            if let Some((to, _)) = texts.get_key_value(name) {
                links.push(Link { from, line, verb, to });
            }
        }
    }
    links.reverse();
    links
}

/// The texts in quotation marks.
fn quoted(tag: &str) -> impl Iterator<Item = &str> {
    let mut rest = tag;
    std::iter::from_fn(move || {
        let begin = rest.find(['"', '\''])?;
        let mark = rest[begin..].chars().next()?;
        let within = &rest[begin + 1..];
        let end = within.find(mark)?;
        rest = &within[end + 1..];
        Some(&within[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(texts: &[(&str, &str)], start: &str) -> Option<String> {
        let texts = texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        first(&texts.collect(), start).map(|circle| circle.to_string())
    }

    #[test]
    fn a_circle_is_named_from_its_first_template_wherever_it_is_entered() {
        let texts = [
            ("a.j2", "{% include \"c.j2\" %}"),
            ("b.j2", "\n{%- extends 'd.j2' -%}"),
            ("c.j2", "{% set x = 1 %}\n\n{% from \"b.j2\" import x %}"),
            ("d.j2", "{% include [\"none.j2\", \"b.j2\"] ignore missing %}"),
        ];
        let told = Some("b.j2:2 extends d.j2, d.j2:1 includes b.j2".to_owned());
        for start in ["a.j2", "b.j2", "c.j2", "d.j2"] {
            assert_eq!(circle(&texts, start), told, "{start}");
        }
    }

    #[test]
    fn a_template_of_its_own_is_a_circle() {
        let told = circle(&[("a.j2", "x\n{% import 'a.j2' as a %}")], "a.j2");
        assert_eq!(told.as_deref(), Some("a.j2:2 imports a.j2"));
    }

    #[test]
    fn ways_that_meet_comments_and_half_tags_are_no_circle() {
        let texts = [
            ("a.j2", "{% include 'b.j2' %}{% include 'c.j2' %}{% include 'd.j2' %}"),
            ("b.j2", "{% include 'd.j2' %}{% include name %}{% include 'gone.j2' %}"),
            ("c.j2", "{# {% include 'a.j2' %} #}{% include 'd.j2' %}{% extends"),
            ("d.j2", "{{ 'a.j2' }}{% set x = 'a.j2' %}{# {% include 'a.j2' %}"),
        ];
        assert_eq!(circle(&texts, "a.j2"), None);
        assert_eq!(circle(&texts, "gone.j2"), None);
    }

    #[test]
    fn a_long_way_is_gone_without_many_calls() {
        let name = |number: u32| format!("{number:05}.j2");
        let text = |number: u32| format!("{{% include \"{}\" %}}", name((number + 1) % 2_000));
        let texts: BTreeMap<_, _> = (0..2_000).map(|number| (name(number), text(number))).collect();
        let circle = first(&texts, "01000.j2").expect("a circle");
        assert_eq!((circle.template(), circle.line()), ("00000.j2", 1));
        let told = circle.to_string();
        assert!(
            told.ends_with("00007.j2:1 includes 00008.j2, and so on, 2000 templates in all"),
            "{told}"
        );
    }
}
