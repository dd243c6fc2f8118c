//! How metric math is written. It only reads; what a function does is not known here.

/// So deep may an expression be nested.
const DEPTH_MAX: usize = 50;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Number(f64),
    Name(String),
    Text(String),
    List(Vec<Node>),
    Negative(Box<Node>),
    Pair(Operator, Box<Node>, Box<Node>),
    Call(String, Vec<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    LessOrEqual,
    GreaterOrEqual,
    Less,
    Greater,
    Plus,
    Minus,
    Times,
    Divided,
    Power,
}

impl Operator {
    /// The ways to write them, the longest first, and how tightly they bind.
    const ALL: [(&'static str, Operator, u8); 15] = [
        ("AND", Operator::And, 2),
        ("OR", Operator::Or, 1),
        ("&&", Operator::And, 2),
        ("||", Operator::Or, 1),
        ("==", Operator::Equal, 3),
        ("!=", Operator::NotEqual, 3),
        ("<=", Operator::LessOrEqual, 3),
        (">=", Operator::GreaterOrEqual, 3),
        ("<", Operator::Less, 3),
        (">", Operator::Greater, 3),
        ("+", Operator::Plus, 4),
        ("-", Operator::Minus, 4),
        ("*", Operator::Times, 5),
        ("/", Operator::Divided, 5),
        ("^", Operator::Power, 7),
    ];

    pub(super) fn of(self, left: f64, right: f64) -> f64 {
        let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
        match self {
            Operator::Or => truth(left != 0.0 || right != 0.0),
            Operator::And => truth(left != 0.0 && right != 0.0),
            Operator::Equal => truth(left == right),
            Operator::NotEqual => truth(left != right),
            Operator::LessOrEqual => truth(left <= right),
            Operator::GreaterOrEqual => truth(left >= right),
            Operator::Less => truth(left < right),
            Operator::Greater => truth(left > right),
            Operator::Plus => left + right,
            Operator::Minus => left - right,
            Operator::Times => left * right,
            Operator::Divided => left / right,
            Operator::Power => left.powf(right),
        }
    }
}

impl Node {
    pub(super) fn ids(&self, ids: &mut Vec<String>) {
        match self {
            Node::Number(_) | Node::Text(_) => {}
            Node::Name(name) => ids.push(name.clone()),
            Node::Negative(node) => node.ids(ids),
            Node::Pair(_, left, right) => {
                left.ids(ids);
                right.ids(ids);
            }
            Node::List(nodes) | Node::Call(_, nodes) => nodes.iter().for_each(|node| node.ids(ids)),
        }
    }
}

/// Reads an expression, or says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let mut reader = Reader { rest: text, depth: 0 };
    let node = reader.pairs(0)?;
    match reader.ahead() {
        "" => Ok(node),
        rest => Err(format!("'{rest}' was not expected")),
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn ahead(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn take(&mut self, token: &str) -> bool {
        match self.ahead().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) { Ok(()) } else { Err(format!("'{token}' was expected at '{}'", self.rest)) }
    }

    fn operator(&mut self) -> Option<(&'static str, Operator, u8)> {
        let ahead = self.ahead();
        let word = |token: &str| token.starts_with(|letter: char| letter.is_alphabetic());
        let ends = |token: &str| !ahead[token.len()..].starts_with(|letter: char| letter.is_alphanumeric());
        let fits = |(token, _, _): &&(&str, Operator, u8)| ahead.starts_with(*token) && (!word(token) || ends(token));
        Operator::ALL.iter().find(fits).copied()
    }

    /// Operators that bind at least so tightly.
    fn pairs(&mut self, least: u8) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("it is nested too deeply".to_owned());
        }
        let mut left = self.single()?;
        while let Some((token, operator, binds)) = self.operator().filter(|(_, _, binds)| *binds >= least) {
            self.take(token);
            let right = self.pairs(binds + 1)?;
            left = Node::Pair(operator, Box::new(left), Box::new(right));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn single(&mut self) -> Result<Node, String> {
        let ahead = self.ahead();
        let Some(first) = ahead.chars().next() else { return Err("it ends too early".to_owned()) };
        if self.take("-") {
            return Ok(Node::Negative(Box::new(self.pairs(6)?)));
        }
        if self.take("(") {
            let node = self.pairs(0)?;
            self.expect(")")?;
            return Ok(node);
        }
        if self.take("[") {
            return self.several("]").map(Node::List);
        }
        if first == '\'' || first == '"' {
            let (text, rest) = ahead[1..].split_once(first).ok_or("a text has no end")?;
            self.rest = rest;
            return Ok(Node::Text(text.to_owned()));
        }
        let word = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '.';
        let end = ahead.find(|letter| !word(letter)).unwrap_or(ahead.len());
        let (token, rest) = ahead.split_at(end);
        self.rest = rest;
        if first.is_ascii_digit() || first == '.' {
            return token.parse().map(Node::Number).map_err(|_| format!("'{token}' is no number"));
        }
        if token.is_empty() {
            return Err(format!("'{first}' was not expected"));
        }
        if self.take("(") {
            return self.several(")").map(|arguments| Node::Call(token.to_owned(), arguments));
        }
        // The one word that is no name: what FILL may be told.
        Ok(if token == "REPEAT" { Node::Text(token.to_owned()) } else { Node::Name(token.to_owned()) })
    }

    fn several(&mut self, end: &str) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        if self.take(end) {
            return Ok(nodes);
        }
        loop {
            nodes.push(self.pairs(0)?);
            if self.take(end) {
                return Ok(nodes);
            }
            self.expect(",")?;
        }
    }
}
