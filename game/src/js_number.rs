//! Reads text the way JavaScript's `Number()` does, because the clients this service replaces a server for rely on it.
//! It never judges whether the number makes sense as a score.

/// `Number(text)`: surrounding white space is ignored, empty text is 0, whatever is not a number is NaN.
pub(crate) fn number(text: &str) -> f64 {
    let text = trim(text);
    if text.is_empty() {
        return 0.0;
    }
    if let Some(("0", rest)) = text.split_at_checked(1) {
        let radix = match rest.as_bytes().first() {
            Some(b'x' | b'X') => Some(16),
            Some(b'o' | b'O') => Some(8),
            Some(b'b' | b'B') => Some(2),
            _ => None,
        };
        if let Some(radix) = radix {
            return integer(&rest[1..], radix);
        }
    }
    match text {
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        // Rust also reads "inf", "nan" and the like: only the decimal grammar's own characters get there.
        _ if text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) => {
            text.parse().unwrap_or(f64::NAN)
        }
        _ => f64::NAN,
    }
}

/// Removes what JavaScript's `trim()` removes: Unicode white space, line ends and the byte order mark.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Like [`trim`], at the end only.
pub(crate) fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

fn is_space(c: char) -> bool {
    matches!(
        c,
        '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}'
    )
}

/// Digits of a radix that is a power of two, rounded once and to even, however many there are.
fn integer(digits: &str, radix: u32) -> f64 {
    if digits.is_empty() {
        return f64::NAN;
    }
    let bits = radix.trailing_zeros();
    let (mut head, mut dropped, mut sticky) = (0_u128, 0_u32, false);
    for c in digits.chars() {
        let Some(digit) = c.to_digit(radix) else { return f64::NAN };
        if head.leading_zeros() > bits {
            head = (head << bits) | u128::from(digit);
        } else {
            dropped = dropped.saturating_add(bits);
            sticky |= digit != 0;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "this rounding is the one JavaScript does")]
    let mantissa = (head | u128::from(sticky)) as f64;
    mantissa * 2_f64.powi(i32::try_from(dropped).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn agrees_with_javascript() {
        for (text, expected) in [
            ("", 0.0),
            (" \n\t\u{b}\u{c}\r\u{a0}\u{feff}\u{2028}\u{3000}", 0.0),
            ("42", 42.0),
            ("  42\u{feff}", 42.0),
            ("+42", 42.0),
            ("-42", -42.0),
            ("-0", 0.0),
            ("007", 7.0),
            ("1e3", 1000.0),
            ("1E+3", 1000.0),
            ("12e-1", 1.2),
            (".5", 0.5),
            ("5.", 5.0),
            ("-.5", -0.5),
            ("0x1F", 31.0),
            ("0XfF", 255.0),
            ("0b101", 5.0),
            ("0B11", 3.0),
            ("0o17", 15.0),
            ("0O7", 7.0),
            ("0x20000000000001", 9_007_199_254_740_992.0),
            ("0x20000000000003", 9_007_199_254_740_996.0),
            ("1e400", f64::INFINITY),
            ("Infinity", f64::INFINITY),
            ("+Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
        let long = format!("0x8{}1", "0".repeat(40));
        assert_eq!(number(&long), 8.0 * 16_f64.powi(41), "{long}");
        assert_eq!(number(&format!("0x{}", "f".repeat(300))), f64::INFINITY);
    }

    #[test]
    fn is_not_a_number_where_javascript_says_so() {
        for text in [
            "abc",
            "1_000",
            "1,000",
            "1 2",
            "12px",
            "0x",
            "0b",
            "0b2",
            "0o8",
            "0xg",
            "+0x1",
            "-0x1",
            ".",
            "+",
            "-",
            "e5",
            "1e",
            "1e+",
            "1.2.3",
            "--1",
            "inf",
            "+inf",
            "nan",
            "NaN",
            "infinity",
            "INFINITY",
            "0x1p3",
            "1n",
            "null",
            "true",
            "٣",
            "\u{180e}1",
            "0x\u{e9}",
        ] {
            assert!(number(text).is_nan(), "{text:?} gave {}", number(text));
        }
    }
}
