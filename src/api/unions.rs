//! Unions: `{type: X, x: {...}}`. A member is called like its type in lower camel case, and exactly the type's member is set.

use kube::core::Rule;

/// The types of a union, each with the member that has its settings; a type without settings has none.
#[derive(Debug)]
pub struct Union {
    types: &'static [(&'static str, Option<&'static str>)],
}

/// Why a stored union cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// This version does not know the type.
    UnknownType(String),
    /// The member of the type is missing, or the member of another type is set.
    Member(&'static str, String),
}

impl Union {
    pub(super) const fn new(types: &'static [(&'static str, Option<&'static str>)]) -> Self {
        Self { types }
    }

    /// The types with their members, in the order in which people read them.
    pub(super) fn entries(&self) -> &'static [(&'static str, Option<&'static str>)] {
        self.types
    }

    /// The member of a type, where the type is known and has one.
    pub(super) fn member(&self, word: &str) -> Option<&'static str> {
        self.members().find(|(known, _)| *known == word).map(|(_, member)| member)
    }

    /// The types, in the order in which people read them.
    pub fn words(&self) -> Vec<&'static str> {
        self.types.iter().map(|(word, _)| *word).collect()
    }

    fn members(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.types.iter().filter_map(|(word, member)| Some((*word, (*member)?)))
    }

    /// The rule for the schema. A type that this version does not know has no member that it knows.
    pub(super) fn rule(&self) -> Rule {
        let fits = |(word, member)| format!("has(self.{member}) == (self.type == '{word}')");
        let expression: Vec<String> = self.members().map(fits).collect();
        let names: Vec<String> =
            self.members().map(|(word, member)| format!("{member} for {word}")).collect();
        let message = format!("set exactly the member that belongs to the type: {}", names.join(", "));
        Rule::new(expression.join(" && ")).message(&*message)
    }

    /// Whether the type is known and exactly its member is set. `set` names the members that are.
    pub(super) fn check(&self, word: &str, set: &[(&'static str, bool)]) -> Result<(), Misfit> {
        let Some((_, own)) = self.types.iter().find(|(known, _)| *known == word) else {
            let message = format!("this version does not know {word}; it knows {}", listed(&self.words()));
            return Err(Misfit::UnknownType(message));
        };
        let is_set = |member: &str| set.iter().any(|(name, is_set)| *name == member && *is_set);
        if let Some(own) = own.filter(|own| !is_set(own)) {
            return Err(Misfit::Member(own, format!("type {word} needs it")));
        }
        let foreign = set.iter().find(|(member, is_set)| *is_set && Some(*member) != *own);
        foreign.map_or(Ok(()), |(member, _)| {
            Err(Misfit::Member(member, format!("it does not belong to type {word}; remove it")))
        })
    }
}

/// `A`, `A and B`, `A, B and C`.
pub(super) fn listed(words: &[&str]) -> String {
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => (*only).to_owned(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREEZE: Union = Union::new(&[("None", None), ("Until", Some("until")), ("Weekly", Some("weekly"))]);

    #[test]
    fn a_stored_union_is_used_only_with_exactly_its_member() {
        let check = |word: &str, until, weekly| FREEZE.check(word, &[("until", until), ("weekly", weekly)]);
        assert_eq!(check("None", false, false), Ok(()));
        assert_eq!(check("Until", true, false), Ok(()));
        assert!(matches!(check("Until", false, false), Err(Misfit::Member("until", _))));
        assert!(matches!(check("Until", true, true), Err(Misfit::Member("weekly", _))));
        assert!(matches!(check("None", true, false), Err(Misfit::Member("until", _))));
        let Err(Misfit::UnknownType(message)) = check("Daily", false, false) else { panic!("it is known") };
        assert_eq!(message, "this version does not know Daily; it knows None, Until and Weekly");
    }
}
