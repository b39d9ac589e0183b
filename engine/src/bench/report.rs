//! What a run found, as names and values: the names of the JSON output, which stay as they are.

use super::clock::{Nanos, to_seconds};

/// A value of a report.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A count.
    Integer(u64),
    /// A measured quantity.
    Number(f64),
    /// Words.
    Text(String),
    /// Yes or no.
    Flag(bool),
    /// Several.
    List(Vec<Value>),
    /// Named ones, in order.
    Map(Vec<(&'static str, Value)>),
}

impl Value {
    /// Nanoseconds as microseconds with one decimal.
    #[allow(clippy::cast_precision_loss)] // times of a run are below 2^53
    pub fn micros(nanos: Nanos) -> Self {
        Self::Number((nanos as f64 / 100.0).round() / 10.0)
    }
}

/// A report under construction.
#[derive(Debug, Default)]
pub struct Report {
    entries: Vec<(&'static str, Value)>,
    problems: Vec<String>,
}

#[allow(clippy::cast_precision_loss)] // counts of a run are below 2^53
impl Report {
    /// A count.
    pub fn integer(&mut self, name: &'static str, value: u64) {
        self.entries.push((name, Value::Integer(value)));
    }

    /// Words.
    pub fn text(&mut self, name: &'static str, value: impl Into<String>) {
        self.entries.push((name, Value::Text(value.into())));
    }

    /// A quantity with three decimals. Not a number means that there is nothing to say.
    pub fn number(&mut self, name: &'static str, value: f64) {
        if value.is_finite() {
            self.entries.push((name, Value::Number((value * 1_000.0).round() / 1_000.0)));
        }
    }

    /// A time in seconds.
    pub fn seconds(&mut self, name: &'static str, nanos: Nanos) {
        self.number(name, to_seconds(nanos));
    }

    /// So many in so long. Nothing is said when no time has passed.
    pub fn rate(&mut self, name: &'static str, count: u64, nanos: Nanos) {
        self.number(name, count as f64 / to_seconds(nanos));
    }

    /// Microseconds that each of `count` took. Nothing is said when there are none.
    pub fn micros_each(&mut self, name: &'static str, nanos: Nanos, count: u64) {
        self.number(name, nanos as f64 / 1e3 / count as f64);
    }

    /// Anything that may be missing.
    pub fn optional(&mut self, name: &'static str, value: Option<Value>) {
        self.entries.extend(value.map(|value| (name, value)));
    }

    /// A check failed; `problem` is a clause for people.
    pub fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// A count that should be 0; otherwise the check has failed.
    pub fn should_be_none(&mut self, name: &'static str, count: u64, problem: &str) {
        self.integer(name, count);
        if count > 0 {
            self.problem(format!("{count} {problem}"));
        }
    }

    /// The whole: `ok`, `problems`, then everything else.
    pub fn finish(self) -> Value {
        let mut entries = vec![
            ("ok", Value::Flag(self.problems.is_empty())),
            ("problems", Value::List(self.problems.into_iter().map(Value::Text).collect())),
        ];
        entries.extend(self.entries);
        Value::Map(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_should_be_none_fails_the_report() {
        let mut report = Report::default();
        report.should_be_none("missing", 0, "messages are missing");
        report.should_be_none("duplicates", 3, "messages came twice");
        report.rate("per_s", 5, 0);
        let expected = Value::Map(vec![
            ("ok", Value::Flag(false)),
            ("problems", Value::List(vec![Value::Text("3 messages came twice".into())])),
            ("missing", Value::Integer(0)),
            ("duplicates", Value::Integer(3)),
        ]);
        assert_eq!(report.finish(), expected);
    }
}
