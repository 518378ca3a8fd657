//! Who gets a request: the first rule of which every condition holds, or else
//! the team that its category's department takes things in by.

use samen_proto::requests::target::Target as To;
use samen_proto::requests::*;

/// What rules look at.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    pub category: &'a str,
    pub neighbourhood: &'a str,
    pub urgency: Urgency,
    /// What the reporter wrote; empty where it is not at hand.
    pub text: &'a str,
}

/// Who gets it, and by which rule; by none, its department.
pub fn route(
    id: &str,
    routing: &Routing,
    intake_team: Option<&str>,
    facts: &Facts,
) -> Option<RequestRouted> {
    let text = facts.text.to_lowercase();
    let rule = routing.rules.iter().find(|rule| holds(rule, facts, &text));
    let (target, rule) = match (rule, intake_team) {
        (Some(rule), _) => (rule.target.clone()?, rule.name.clone()),
        (None, Some(team)) => (Target { target: Some(To::Team(team.to_owned())) }, String::new()),
        (None, None) => return None,
    };
    Some(RequestRouted { id: id.to_owned(), target: Some(target), rule })
}

/// Whether a category is this one, or a subcategory of this main one.
pub fn covers(pattern: &str, category: &str) -> bool {
    category.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn holds(rule: &RoutingRule, facts: &Facts, text: &str) -> bool {
    let RoutingRule { categories, neighbourhoods, urgencies, words, .. } = rule;
    (categories.is_empty() || categories.iter().any(|pattern| covers(pattern, facts.category)))
        && (neighbourhoods.is_empty() || neighbourhoods.iter().any(|n| n == facts.neighbourhood))
        && (urgencies.is_empty() || urgencies.contains(&facts.urgency.into()))
        && (words.is_empty() || words.iter().any(|word| has_word(text, &word.to_lowercase())))
}

/// Whether a text has a word, not as a part of another one.
fn has_word(text: &str, word: &str) -> bool {
    !word.is_empty()
        && text.match_indices(word).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            ![before, after].into_iter().flatten().any(char::is_alphanumeric)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn team(code: &str) -> Option<Target> {
        Some(Target { target: Some(To::Team(code.to_owned())) })
    }

    fn rule(name: &str) -> RoutingRule {
        RoutingRule { name: name.into(), target: team(name), ..RoutingRule::default() }
    }

    #[test]
    fn the_first_rule_that_holds_decides_and_the_department_otherwise() {
        let routing = Routing {
            rules: vec![
                RoutingRule {
                    categories: vec!["afval".into()],
                    words: vec!["Glas".into()],
                    ..rule("glas")
                },
                RoutingRule {
                    categories: vec!["afval/container".into()],
                    neighbourhoods: vec!["BU1".into(), "BU2".into()],
                    ..rule("noord")
                },
                RoutingRule { urgencies: vec![Urgency::High.into()], ..rule("gevaar") },
            ],
        };
        let to = |category, neighbourhood, urgency, text| {
            let facts = Facts { category, neighbourhood, urgency, text };
            let routed = route("x", &routing, Some("wacht"), &facts).expect("routed");
            let Some(To::Team(team)) = routed.target.and_then(|t| t.target) else {
                panic!("not a team")
            };
            (team, routed.rule)
        };
        let by = |name: &str| (name.to_owned(), name.to_owned());
        let normal = Urgency::Normal;
        assert_eq!(to("afval/container", "BU1", normal, "vol, met GLAS!"), by("glas"));
        assert_eq!(to("afval/container", "BU2", normal, "glasbak is vol"), by("noord"));
        assert_eq!(to("afval/container", "BU3", Urgency::High, ""), by("gevaar"));
        assert_eq!(to("afvalbak/vol", "BU1", normal, "glas"), ("wacht".into(), String::new()));
        let none = Routing::default();
        assert_eq!(route("x", &none, None, &Facts::default()), None);
    }
}
