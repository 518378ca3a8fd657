//! What the fields of a message may hold.

use std::collections::BTreeSet;

use samen_proto::options::Role;
use samen_proto::participation::Channel;
use samen_server::Caller;
use samen_server::area::Area;
use samen_server::reply::Check;

/// Neighbourhoods of one process.
const MAX_NEIGHBOURHOODS: usize = 100;
/// Characters of a neighbourhood's code, where no area says which there are.
const CODE: std::ops::RangeInclusive<usize> = 1..=20;

/// What a process is about; none is the whole municipality.
pub fn neighbourhoods(check: &mut Check, area: &Area, codes: &[String]) {
    let field = "neighbourhoods";
    if codes.len() > MAX_NEIGHBOURHOODS {
        return check.fail(field, &format!("must be at most {MAX_NEIGHBOURHOODS} codes"));
    }
    let mut seen = BTreeSet::new();
    for code in codes {
        neighbourhood(check, area, field, code);
        check.require(seen.insert(code), field, &format!("must not name {code} twice"));
    }
}

/// A neighbourhood of this municipality; any code where none are configured.
pub fn neighbourhood(check: &mut Check, area: &Area, field: &str, code: &str) {
    if area.iter().next().is_none() || !CODE.contains(&code.chars().count()) {
        check.text(field, code, CODE);
    } else {
        let allowed = format!("must be CBS codes of this municipality; {code} is not one");
        check.require(area.get(code).is_some(), field, &allowed);
    }
}

/// Residents come online; by the other channels, a process lead enters what
/// people said.
pub fn channel(check: &mut Check, caller: &Caller, channel: i32) {
    let Some(channel) = check.choice("channel", channel) else { return };
    let (role, otherwise) = match channel {
        Channel::Online => (Role::Resident, "must not be CHANNEL_ONLINE for a process lead"),
        _ => (Role::ProcessLead, "must be CHANNEL_ONLINE for a resident"),
    };
    check.require(caller.has(role), "channel", otherwise);
}
