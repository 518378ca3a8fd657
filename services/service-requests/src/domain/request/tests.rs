//! What holds of a request, whatever happens to it.

use jiff::civil::date;
use jiff::tz::TimeZone;

use super::*;

fn at(y: i16, m: i8, d: i8, h: i8) -> Now {
    let zone = TimeZone::get("Europe/Amsterdam").expect("it is compiled in");
    let time = zone.to_timestamp(date(y, m, d).at(h, 0, 0, 0)).expect("a moment");
    Now { time, calendar: Calendar::dutch() }
}

fn plan(amount: u32) -> Option<NormPlan> {
    Some(NormPlan {
        norm: Norm { amount, unit: NormUnit::WorkingDays.into() },
        approaching_percent: 0,
        pauses_while_waiting: true,
        reopening: ReopenPolicy::Anew,
        escalation: EscalationRole::TeamLead,
    })
}

/// A request and its version, after a command that is taken.
fn after(
    (request, version): (Request, u64),
    command: RequestCommand,
    now: &Now,
) -> ((Request, u64), Vec<RequestEvent>) {
    let events = decide(&request, version, "x", None, command, now).expect("taken");
    let after = events.iter().fold(request, |request, event| request.evolve(event));
    ((after, version + events.len() as u64), events)
}

fn filed(now: &Now) -> (Request, u64) {
    let filed = RequestFiled { id: "x".into(), ..RequestFiled::default() };
    let command = RequestCommand::File { filed: filed.into(), routed: None, norm: plan(6) };
    after((Request::default(), 0), command, now).0
}

fn change(to: Status) -> RequestCommand {
    RequestCommand::Change(Change {
        to,
        explanation: Some(samen_proto::log::Sealed::default()),
        external_party: "aannemer".into(),
        planned_date: "2026-12-01".into(),
    })
}

#[test]
fn six_working_days_over_easter_and_summer_time() {
    let (request, _) = filed(&at(2026, 3, 27, 16));
    assert_eq!(request.norm.expect("a norm").due, at(2026, 4, 7, 16).time);
}

#[test]
fn a_norm_is_told_once_for_each_due_moment() {
    let request = filed(&at(2026, 3, 27, 16));
    let (request, told) = after(request, RequestCommand::CheckNorm, &at(2026, 3, 30, 16));
    assert_eq!(told, []);
    let (request, told) = after(request, RequestCommand::CheckNorm, &at(2026, 4, 7, 10));
    assert!(matches!(told.as_slice(), [RequestEvent::NormApproached(_)]));
    let (request, told) = after(request, RequestCommand::CheckNorm, &at(2026, 4, 7, 12));
    assert_eq!(told, []);
    let (request, told) = after(request, RequestCommand::CheckNorm, &at(2026, 4, 8, 12));
    assert!(matches!(told.as_slice(), [RequestEvent::NormBreached(_)]));
    let (request, told) = after(request, RequestCommand::CheckNorm, &at(2026, 4, 9, 12));
    assert_eq!(told, []);
    // Closed is closed, and opened again it counts anew.
    let (request, _) = after(request, change(Status::Resolved), &at(2026, 4, 9, 13));
    let (request, told) = after(request, RequestCommand::CheckNorm, &at(2026, 6, 1, 12));
    assert_eq!(told, []);
    let (request, _) = after(request, change(Status::Reopened), &at(2026, 6, 1, 12));
    assert_eq!(request.0.norm.as_ref().expect("a norm").due, at(2026, 6, 9, 12).time);
    let (_, told) = after(request, RequestCommand::CheckNorm, &at(2026, 6, 9, 12));
    assert!(matches!(told.as_slice(), [RequestEvent::NormBreached(_)]));
}

#[test]
fn a_norm_stands_still_while_the_reporter_is_waited_for() {
    let (mut request, version) = filed(&at(2026, 6, 1, 9));
    request.contact_consent = true;
    let message = Message { message: samen_proto::log::Sealed::default(), ask_reaction: true };
    let (request, _) = after((request, version), RequestCommand::Send(message), &at(2026, 6, 2, 9));
    assert_eq!(request.0.status, Status::Waiting);
    let (request, told) = after(request, RequestCommand::CheckNorm, &at(2026, 6, 12, 9));
    assert_eq!(told, []);
    let (request, told) = after(request, RequestCommand::ExpireReaction, &at(2026, 6, 7, 8));
    assert_eq!(told, []);
    let (request, _) = after(request, RequestCommand::ExpireReaction, &at(2026, 6, 8, 9));
    assert_eq!(request.0.status, Status::InProgress);
    // Tuesday to Monday are four working days: from Tuesday 9 to Monday 15.
    assert_eq!(request.0.norm.expect("a norm").due, at(2026, 6, 15, 9).time);
}
