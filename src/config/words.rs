//! The parser's words, in ours.

/// What the parser says, as a message and, where one can be given, what to write instead.
pub fn in_our_words(message: &str) -> (String, Option<String>) {
    let mut words = message.split('`').skip(1).step_by(2);
    if let (true, Some(given)) = (message.starts_with("unknown field"), words.next()) {
        let known: Vec<&str> = words.collect();
        let help = match nearest(given, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the keys here are `{}`", known.join("`, `")),
        };
        return (format!("unknown key `{given}`"), Some(help));
    }
    let mut text = message.replace("missing field", "missing key");
    for number in ["u32", "u64"] {
        text = text.replace(&format!("expected {number}"), "expected a whole number from 0 on");
    }
    (text, None)
}

/// The known word that is a slip of the pen away.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|word| (distance(given, word), *word)).min()?;
    (near.0 <= 2).then_some(near.1)
}

/// Letters to be added, left out or changed (Levenshtein's distance).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut left = index + 1;
        let mut above_left = index;
        for (cell, counterpart) in row.iter_mut().skip(1).zip(other.chars()) {
            let above = *cell;
            let changed = above_left + usize::from(letter != counterpart);
            *cell = changed.min(above + 1).min(left + 1);
            (left, above_left) = (*cell, above);
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_slips_of_the_pen() {
        for (one, other, slips) in [
            ("", "", 0),
            ("", "abc", 3),
            ("steps", "steps", 0),
            ("stepps", "steps", 1),
            ("on_sucess", "on_success", 1),
            ("on-exists", "on_exists", 1),
            ("abc", "", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(one, other), slips, "{one} {other}");
        }
    }

    #[test]
    fn a_key_that_is_far_from_all_is_answered_with_all() {
        let (message, help) = in_our_words("unknown field `colour`, expected one of `a`, `b`");
        assert_eq!(message, "unknown key `colour`");
        assert_eq!(help.as_deref(), Some("the keys here are `a`, `b`"));
    }
}
