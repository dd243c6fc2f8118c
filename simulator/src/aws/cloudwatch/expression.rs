//! Metric math: arithmetic and a few functions over series. It refuses what it does not know, and never looks a metric up
//! itself.

mod syntax;

use std::collections::BTreeMap;

use self::syntax::{Node, Operator};
use super::series::Series;
use crate::aws::Fault;

/// What an expression gives.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Number(f64),
    Series(Series),
    Many(Vec<Series>),
}

/// The periods that an expression is about.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    pub(super) from_ms: u64,
    pub(super) until_ms: u64,
    pub(super) period_ms: u64,
}

impl Grid {
    fn times(&self) -> impl Iterator<Item = u64> + use<> {
        (self.from_ms..self.until_ms).step_by(usize::try_from(self.period_ms.max(1)).unwrap_or(usize::MAX))
    }
}

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expression(Node);

impl Expression {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let invalid = |why| Fault::new("ValidationError", format!("Error in expression '{text}': {why}"));
        syntax::parse(text).map(Expression).map_err(invalid)
    }

    /// The metrics and expressions that it names.
    pub(super) fn ids(&self) -> Vec<String> {
        let mut ids = Vec::new();
        self.0.ids(&mut ids);
        ids
    }

    /// What it gives, where each name stands for a series.
    pub(super) fn evaluate(&self, named: &BTreeMap<String, Series>, grid: &Grid) -> Result<Outcome, Fault> {
        value(&self.0, named, grid).map_err(|why| Fault::new("ValidationError", why))
    }

    /// As a series: a number is one at each time.
    pub(super) fn series(&self, named: &BTreeMap<String, Series>, grid: &Grid) -> Result<Series, Fault> {
        match self.evaluate(named, grid)? {
            Outcome::Series(series) => Ok(series),
            Outcome::Number(number) => Ok(grid.times().map(|at| (at, number)).collect()),
            Outcome::Many(_) => Err(Fault::new("ValidationError", "An expression must give a single time series")),
        }
    }
}

fn value(node: &Node, named: &BTreeMap<String, Series>, grid: &Grid) -> Result<Outcome, String> {
    match node {
        Node::Number(number) => Ok(Outcome::Number(*number)),
        Node::Name(name) => match named.get(name) {
            Some(series) => Ok(Outcome::Series(series.clone())),
            None => Err(format!("no metric has the id '{name}'")),
        },
        Node::Text(_) => Err("a text is of no use here".to_owned()),
        Node::List(nodes) => {
            let each = nodes.iter().map(|node| value(node, named, grid).map(|one| spread(one, grid)));
            each.collect::<Result<Vec<Vec<Series>>, String>>().map(|all| Outcome::Many(all.concat()))
        }
        Node::Negative(node) => Ok(map(value(node, named, grid)?, |number| -number)),
        Node::Pair(operator, left, right) => pair(*operator, value(left, named, grid)?, value(right, named, grid)?),
        Node::Call(name, arguments) => {
            let values: Result<Vec<Outcome>, String> = arguments
                .iter()
                .filter(|argument| !matches!(argument, Node::Text(_)))
                .map(|argument| value(argument, named, grid))
                .collect();
            function(name, values?, arguments, grid)
        }
    }
}

fn spread(outcome: Outcome, grid: &Grid) -> Vec<Series> {
    match outcome {
        Outcome::Number(number) => vec![grid.times().map(|at| (at, number)).collect()],
        Outcome::Series(series) => vec![series],
        Outcome::Many(all) => all,
    }
}

fn map(outcome: Outcome, act: impl Fn(f64) -> f64) -> Outcome {
    let all = |series: Series| series.into_iter().map(|(at, number)| (at, act(number))).collect();
    match outcome {
        Outcome::Number(number) => Outcome::Number(act(number)),
        Outcome::Series(series) => Outcome::Series(all(series)),
        Outcome::Many(many) => Outcome::Many(many.into_iter().map(all).collect()),
    }
}

/// Two of them: where both are series, at the times that both have. What has no value (division by zero) is left out.
fn pair(operator: Operator, left: Outcome, right: Outcome) -> Result<Outcome, String> {
    let act = |left: f64, right: f64| Some(operator.of(left, right)).filter(|number| number.is_finite());
    Ok(match (left, right) {
        (Outcome::Number(left), Outcome::Number(right)) => Outcome::Number(operator.of(left, right)),
        (Outcome::Series(left), Outcome::Number(right)) => {
            Outcome::Series(left.into_iter().filter_map(|(at, left)| Some((at, act(left, right)?))).collect())
        }
        (Outcome::Number(left), Outcome::Series(right)) => {
            Outcome::Series(right.into_iter().filter_map(|(at, right)| Some((at, act(left, right)?))).collect())
        }
        (Outcome::Series(left), Outcome::Series(right)) => {
            let both = left.into_iter().filter_map(|(at, left)| Some((at, act(left, *right.get(&at)?)?)));
            Outcome::Series(both.collect())
        }
        (Outcome::Many(left), right) => {
            let each = left.into_iter().map(|left| pair(operator, Outcome::Series(left), right.clone()));
            many(each.collect::<Result<Vec<_>, _>>()?)?
        }
        (left, Outcome::Many(right)) => {
            let each = right.into_iter().map(|right| pair(operator, left.clone(), Outcome::Series(right)));
            many(each.collect::<Result<Vec<_>, _>>()?)?
        }
    })
}

fn many(all: Vec<Outcome>) -> Result<Outcome, String> {
    let series = all.into_iter().map(|one| match one {
        Outcome::Series(series) => Ok(series),
        _ => Err("lists of lists are not supported".to_owned()),
    });
    series.collect::<Result<Vec<_>, _>>().map(Outcome::Many)
}

fn function(name: &str, values: Vec<Outcome>, arguments: &[Node], grid: &Grid) -> Result<Outcome, String> {
    let count = values.len();
    let mut values = values.into_iter();
    let mut next = || values.next().ok_or_else(|| format!("{name} needs more arguments"));
    match name {
        "MAX" => fold(next()?, |numbers| numbers.iter().copied().reduce(f64::max)),
        "MIN" => fold(next()?, |numbers| numbers.iter().copied().reduce(f64::min)),
        "SUM" => fold(next()?, |numbers| Some(numbers.iter().sum())),
        "AVG" => fold(next()?, |numbers| Some(numbers.iter().sum::<f64>() / numbers.len() as f64)),
        "ABS" => Ok(map(next()?, f64::abs)),
        "CEIL" => Ok(map(next()?, f64::ceil)),
        "FLOOR" => Ok(map(next()?, f64::floor)),
        "PERIOD" => Ok(Outcome::Number(grid.period_ms as f64 / 1000.0)),
        "TIME_SERIES" => Ok(Outcome::Series(spread(next()?, grid).into_iter().next().unwrap_or_default())),
        "RUNNING_SUM" => over_time(next()?, |sum, number| sum + number),
        "DIFF" => Ok(steps(next()?, |_, before, now| now - before)),
        "RATE" => Ok(steps(next()?, |ms, before, now| (now - before) / (ms as f64 / 1000.0))),
        "FILL" => {
            let series = next()?;
            let with = match arguments.get(1) {
                Some(Node::Text(word)) if word == "REPEAT" => None,
                _ => match next()? {
                    Outcome::Number(number) => Some(number),
                    _ => return Err("FILL takes a number or REPEAT".to_owned()),
                },
            };
            let fill = |series: Series| {
                let mut last = None;
                let each = grid.times().filter_map(|at| {
                    last = series.get(&at).copied().or(if with.is_some() { None } else { last });
                    Some((at, last.or(with)?))
                });
                each.collect::<Series>()
            };
            Ok(match series {
                Outcome::Number(number) => Outcome::Number(number),
                Outcome::Series(series) => Outcome::Series(fill(series)),
                Outcome::Many(all) => Outcome::Many(all.into_iter().map(fill).collect()),
            })
        }
        "IF" if count == 2 || count == 3 => {
            let (condition, yes) = (next()?, next()?);
            let no = if count == 3 { Some(next()?) } else { None };
            choose(condition, yes, no)
        }
        _ => Err(format!("the function {name} with {count} arguments is not simulated")),
    }
}

/// Over a list at each time; over one series to a number.
fn fold(outcome: Outcome, act: impl Fn(&[f64]) -> Option<f64>) -> Result<Outcome, String> {
    match outcome {
        Outcome::Number(number) => Ok(Outcome::Number(number)),
        Outcome::Series(series) => {
            let numbers: Vec<f64> = series.into_values().collect();
            match act(&numbers).filter(|_| !numbers.is_empty()) {
                Some(number) => Ok(Outcome::Number(number)),
                None => Ok(Outcome::Series(Series::new())),
            }
        }
        Outcome::Many(all) => {
            let mut times: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
            for (at, number) in all.into_iter().flatten() {
                times.entry(at).or_default().push(number);
            }
            Ok(Outcome::Series(times.into_iter().filter_map(|(at, numbers)| Some((at, act(&numbers)?))).collect()))
        }
    }
}

fn over_time(outcome: Outcome, act: impl Fn(f64, f64) -> f64) -> Result<Outcome, String> {
    let Outcome::Series(series) = outcome else { return Err("this takes one time series".to_owned()) };
    let mut so_far = 0.0;
    let each = series.into_iter().map(|(at, number)| {
        so_far = act(so_far, number);
        (at, so_far)
    });
    Ok(Outcome::Series(each.collect()))
}

fn steps(outcome: Outcome, act: impl Fn(u64, f64, f64) -> f64) -> Outcome {
    let one = |series: Series| {
        let pairs = series.iter().zip(series.iter().skip(1));
        pairs.map(|((from, before), (at, now))| (*at, act(at - from, *before, *now))).collect::<Series>()
    };
    match outcome {
        Outcome::Number(_) => Outcome::Number(0.0),
        Outcome::Series(series) => Outcome::Series(one(series)),
        Outcome::Many(all) => Outcome::Many(all.into_iter().map(one).collect()),
    }
}

/// At each time of the condition one or the other; nothing where that has nothing.
fn choose(condition: Outcome, yes: Outcome, no: Option<Outcome>) -> Result<Outcome, String> {
    let at = |outcome: &Option<Outcome>, at: u64| match outcome {
        Some(Outcome::Number(number)) => Some(*number),
        Some(Outcome::Series(series)) => series.get(&at).copied(),
        _ => None,
    };
    let yes = Some(yes);
    match condition {
        Outcome::Number(number) => {
            let chosen = if number == 0.0 { no } else { yes };
            Ok(chosen.unwrap_or_else(|| Outcome::Series(Series::new())))
        }
        Outcome::Series(series) => {
            let each = series
                .into_iter()
                .filter_map(|(time, holds)| Some((time, at(if holds == 0.0 { &no } else { &yes }, time)?)));
            Ok(Outcome::Series(each.collect()))
        }
        Outcome::Many(_) => Err("IF takes one time series as its condition".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let series = |numbers: &[Option<f64>]| -> Series {
            let each = numbers.iter().enumerate();
            each.filter_map(|(at, number)| Some((at as u64 * 60_000, (*number)?))).collect()
        };
        let named = BTreeMap::from([
            ("requests".to_owned(), series(&[Some(100.0), Some(10.0), None, Some(200.0)])),
            ("errors".to_owned(), series(&[Some(5.0), None, None, None])),
            ("blue".to_owned(), series(&[Some(1.0), Some(0.0), None, None])),
            ("green".to_owned(), series(&[None, Some(2.0), Some(1.0), None])),
        ]);
        let grid = Grid { from_ms: 0, until_ms: 240_000, period_ms: 60_000 };
        let n = None;
        for (text, expected) in [
            ("requests * 2 + 1", [Some(201.0), Some(21.0), n, Some(401.0)]),
            ("errors / requests * 100", [Some(5.0), n, n, n]),
            ("100 * FILL(errors, 0) / requests", [Some(5.0), Some(0.0), n, Some(0.0)]),
            ("IF(requests >= 50, 100*FILL(errors,0)/requests, 0)", [Some(5.0), Some(0.0), n, Some(0.0)]),
            ("IF(FILL(requests,0) > 50, 1, 0)", [Some(1.0), Some(0.0), Some(0.0), Some(1.0)]),
            ("MAX([blue, green])", [Some(1.0), Some(2.0), Some(1.0), n]),
            ("MIN([blue, green])", [Some(1.0), Some(0.0), Some(1.0), n]),
            ("SUM([blue, green, 1])", [Some(2.0), Some(3.0), Some(2.0), Some(1.0)]),
            ("AVG([blue, green])", [Some(1.0), Some(1.0), Some(1.0), n]),
            ("MAX(requests)", [Some(200.0); 4]),
            ("RUNNING_SUM(requests)", [Some(100.0), Some(110.0), n, Some(310.0)]),
            ("FILL(requests, REPEAT)", [Some(100.0), Some(10.0), Some(10.0), Some(200.0)]),
            ("requests > 50 && requests < 150", [Some(1.0), Some(0.0), n, Some(0.0)]),
            ("requests > 150 OR blue == 1", [Some(1.0), Some(0.0), n, n]),
            ("-(1 + 2) * 3 ^ 2", [Some(-27.0); 4]),
            ("requests / 0", [n; 4]),
            ("DIFF(requests)", [n, Some(-90.0), n, Some(190.0)]),
            ("PERIOD(requests)", [Some(60.0); 4]),
        ] {
            let got = Expression::parse(text).unwrap().series(&named, &grid).unwrap();
            assert_eq!(got, series(&expected), "{text}");
        }
        for text in ["", "1 +", "MAX([", "nobody + 1", "SEARCH('a', 'Sum')", "[blue, green]", "IF(blue)", "1 2"] {
            let outcome = Expression::parse(text).and_then(|parsed| parsed.series(&named, &grid));
            assert!(outcome.is_err(), "{text}: {outcome:?}");
        }
        assert_eq!(Expression::parse("IF(a > 1, b, MAX([c, a]))").unwrap().ids(), ["a", "b", "c", "a"]);
    }
}
