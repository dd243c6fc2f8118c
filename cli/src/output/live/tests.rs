//! The live lines, drawn on a terminal that remembers what it shows.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use indicatif::TermLike;

use super::*;
use crate::output::look::tests::sample;

/// A terminal that remembers what it shows.
#[derive(Debug, Clone, Default)]
struct Screen(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    width: u16,
    row: usize,
    column: usize,
    rows: Vec<Vec<char>>,
}

impl Screen {
    fn new(width: u16) -> Self {
        Screen(Arc::new(Mutex::new(Shown { width, ..Shown::default() })))
    }

    fn contents(&self) -> String {
        let shown = self.0.lock().unwrap();
        let rows: Vec<String> = shown.rows.iter().map(|r| r.iter().collect::<String>().trim_end().to_owned()).collect();
        rows.join("\n").trim_end().to_owned()
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.0.lock().unwrap().width
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        let mut shown = self.0.lock().unwrap();
        shown.row = shown.row.saturating_sub(n);
        Ok(())
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.0.lock().unwrap().row += n;
        Ok(())
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.0.lock().unwrap().column += n;
        Ok(())
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        let mut shown = self.0.lock().unwrap();
        shown.column = shown.column.saturating_sub(n);
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        self.write_str("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut shown = self.0.lock().unwrap();
        for c in text.chars() {
            match c {
                '\n' => (shown.row, shown.column) = (shown.row + 1, 0),
                '\r' => shown.column = 0,
                c => {
                    // A line that is too long wraps, as on a real one.
                    if shown.column >= usize::from(shown.width) {
                        (shown.row, shown.column) = (shown.row + 1, 0);
                    }
                    let (row, column) = (shown.row, shown.column);
                    let rows = shown.rows.len().max(row + 1);
                    shown.rows.resize(rows, Vec::new());
                    let columns = shown.rows[row].len().max(column + 1);
                    shown.rows[row].resize(columns, ' ');
                    shown.rows[row][column] = c;
                    shown.column += 1;
                }
            }
        }
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        let mut shown = self.0.lock().unwrap();
        let row = shown.row;
        if let Some(row) = shown.rows.get_mut(row) {
            row.clear();
        }
        shown.column = 0;
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn waiting(waiting_for: &str) -> Event {
    let (step, waiting_for) = ("service".to_owned(), waiting_for.to_owned());
    Event::Waiting { step, waiting_for, weights: Default::default(), elapsed_ms: 1500 }
}

#[test]
fn a_terminal_shows_a_chart_and_nothing_of_it_stays() {
    for width in [120, 30] {
        let term = Screen::new(width);
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let look = Look { unicode: true, width: usize::from(width).max(40) };
        let mut live = Live { colours: false, ..Live::new(look, target) };
        let weights = BTreeMap::from([("r10".to_owned(), 10), ("r9".to_owned(), 90)]);
        assert_eq!(live.follow(&waiting("the pause at 10 % to pass")), None);
        assert_eq!(live.follow(&Event::Traffic { reached: true, weights }), None);
        for n in 1..4 {
            assert_eq!(live.follow(&Event::Look(sample(n, 0, 41.0))), None, "a good look is only drawn");
        }
        let shown = term.contents();
        let rows: Vec<&str> = shown.lines().collect();
        assert_eq!(rows.len(), 4, "the spinner, two sides and the last look:\n{shown}");
        assert!(rows[1].starts_with("  r10   10 %") && rows[2].starts_with("  r9    90 %"), "{shown}");

        let line = live.follow(&Event::Look(sample(4, 102, 41.0))).unwrap();
        assert!(line.contains("look 4:") && line.contains("bad"), "what is bad is said at once: {line}");
        assert_eq!(live.follow(&Event::RollingBack { why: "x".to_owned() }), None, "it was said");
        live.clear();
        assert_eq!(term.contents(), "", "nothing stays");
    }
}

#[test]
fn the_last_look_is_said_when_its_weight_is_left() {
    let mut live = Live::new(Look { unicode: true, width: 100 }, ProgressDrawTarget::hidden());
    live.follow(&Event::Look(sample(7, 0, 41.0)));
    let weights = BTreeMap::from([("r10".to_owned(), 100)]);
    let line = live.follow(&Event::Traffic { reached: false, weights: weights.clone() }).unwrap();
    assert!(line.contains("look 7:"), "{line}");
    assert_eq!(live.follow(&Event::Traffic { reached: true, weights }), None);
}
