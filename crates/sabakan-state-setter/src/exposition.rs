//! Reads the text in which exporters tell their metrics, as far as it is wanted. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// The samples of the families that were wanted and are there.
pub type Metrics = BTreeMap<String, Vec<Sample>>;

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What it is about.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// A line that cannot be read, of a family that was wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the metrics is no sample of {family}: {why}")]
pub struct ExpositionError {
    /// Counted from 1.
    pub line: usize,
    /// The family.
    pub family: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Reads the samples of the wanted families. What nobody wants may be anything: one odd line of an exporter says nothing of
/// the hardware.
///
/// # Errors
/// A sample of a wanted family cannot be read: what it would have said is not known then.
pub fn parse(text: &str, wanted: &BTreeSet<&str>) -> Result<Metrics, ExpositionError> {
    let mut metrics = Metrics::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let end = line.find(|c: char| c == '{' || c.is_whitespace()).unwrap_or(line.len());
        let (family, rest) = line.split_at(end);
        if !wanted.contains(family) {
            continue;
        }
        let wrong = |why| ExpositionError { line: index + 1, family: family.to_owned(), why };
        let sample = sample(rest).map_err(wrong)?;
        metrics.entry(family.to_owned()).or_default().push(sample);
    }
    Ok(metrics)
}

/// Labels, value, and perhaps a time, which is passed over.
fn sample(rest: &str) -> Result<Sample, &'static str> {
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    let mut words = rest.split_whitespace();
    let value = words.next().ok_or("there is no value")?;
    // As text, `+Inf` and `NaN` are numbers to Rust, too.
    let value = value.parse().map_err(|_| "its value is no number")?;
    match words.next().map(str::parse::<f64>) {
        Some(Err(_)) => Err("what follows its value is no time"),
        _ if words.next().is_some() => Err("something follows its time"),
        _ => Ok(Sample { labels, value }),
    }
}

/// Labels up to the brace that ends them, and what follows it.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), &'static str> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once('=').ok_or("a label has no value")?;
        let name = name.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err("the name of a label is none");
        }
        let quoted = after.trim_start().strip_prefix('"').ok_or("a label is not in quotes")?;
        let (value, after) = unquoted(quoted)?;
        if labels.insert(name.to_owned(), value).is_some() {
            return Err("a label stands there twice");
        }
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("labels are not divided by commas"),
        }
    }
}

/// The text up to the closing quote, and what follows it.
fn unquoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
                None => return Err("the value of a label does not end"),
            },
            c => value.push(c),
        }
    }
    Err("the value of a label does not end")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<Metrics, ExpositionError> {
        parse(text, &["m", "n"].into())
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn wanted_samples_are_read_and_nothing_else() {
        let text = "# HELP m what {it} is\n# TYPE m gauge\n\
                    m{processor=\"CPU.Socket.1\",system=\"System.Embedded.1\"} 0\n\
                    m{ processor = \"CPU.Socket.2\" , } -1 1700000000000\r\n\
                    mm 7\n\
                    other{ broken\n\
                    \t m 1e0\n\
                    n{} NaN\n\
                    m{a=\"q\\\"b\\\\n\\nx\\t\"} +Inf\n\
                    # EOF\n";
        let metrics = parsed(text).expect("metrics");
        let m: Vec<_> = metrics["m"].iter().map(|s| (s.labels.clone(), s.value)).collect();
        assert_eq!(
            m,
            [
                (labels(&[("processor", "CPU.Socket.1"), ("system", "System.Embedded.1")]), 0.0),
                (labels(&[("processor", "CPU.Socket.2")]), -1.0),
                (labels(&[]), 1.0),
                (labels(&[("a", "q\"b\\n\nx\\t")]), f64::INFINITY),
            ]
        );
        assert!(metrics["n"][0].value.is_nan());
        assert_eq!(metrics.len(), 2);
    }

    #[test]
    fn a_wanted_line_that_cannot_be_read_is_told() {
        for (line, why) in [
            ("m", "no value"),
            ("m{a=\"b\"}", "no value"),
            ("m ok", "no number"),
            ("m{a=\"b\"} 0x0", "no number"),
            ("m 0 soon", "no time"),
            ("m 0 1 2", "follows its time"),
            ("m{a} 0", "has no value"),
            ("m{a=b} 0", "not in quotes"),
            ("m{a=\"b} 0", "does not end"),
            ("m{a=\"b\\", "does not end"),
            ("m{a=\"b\" c=\"d\"} 0", "divided by commas"),
            ("m{a=\"b\",a=\"c\"} 0", "twice"),
            ("m{=\"b\"} 0", "the name of a label"),
            ("m{a-b=\"b\"} 0", "the name of a label"),
        ] {
            let error = parsed(&format!("n 0\n{line}\n")).expect_err(line);
            assert_eq!((error.line, error.family.as_str()), (2, "m"), "{line}");
            assert!(error.why.contains(why), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in "(m|n|#|\\PC)[{}=\",\\\\ a0\\n]{0,40}") {
            let _ = parsed(&text);
        }

        #[test]
        fn what_an_exporter_writes_comes_back(
            pairs in prop::collection::btree_map("[a-z_]{1,8}", "\\PC{0,12}|[\\\\\"\\n]{0,4}", 0..4),
            value in prop::num::f64::NORMAL | prop::num::f64::ZERO,
        ) {
            let quote = |text: &String| {
                text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
            };
            let inside: Vec<_> =
                pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", quote(value))).collect();
            let metrics = parsed(&format!("m{{{}}} {value}\n", inside.join(",")));
            let samples = vec![Sample { labels: pairs, value }];
            prop_assert_eq!(metrics, Ok([("m".to_owned(), samples)].into()));
        }
    }
}
