//! Which known word a wrong one was meant to be.

/// How many characters must be put in, taken out or changed (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(100).enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The known word that a wrong one was meant to be: the same but for case, `_` and `-`, or at
/// most a third of its characters away.
pub fn meant<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let folded = |word: &str| word.replace(['_', '-'], "").to_ascii_lowercase();
    let wrong = folded(wrong);
    let bound = (wrong.chars().count() / 3).clamp(1, 4);
    known
        .iter()
        .map(|word| (distance(&wrong, &folded(word)), *word))
        .filter(|(far, _)| *far <= bound)
        .min_by_key(|(far, _)| *far)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        assert_eq!(distance("kitten", "sitting"), 3);
        let known = ["ThingName", "ThingTypeName", "ThingGroups"];
        for (wrong, right) in [
            ("thingname", Some("ThingName")),
            ("THING_GROUPS", Some("ThingGroups")),
            ("ThingGroup", Some("ThingGroups")),
            ("Colour", None),
            ("", None),
        ] {
            assert_eq!(meant(wrong, &known), right, "{wrong}");
        }
    }
}
