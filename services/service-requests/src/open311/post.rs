//! A report through another's app: a form, with photos if it is multipart.
//!
//! What its reporter gave of themselves is sealed like that of anybody else.
//! An account and a device are ids that the app knows people by: they are not
//! kept. The address of a photo elsewhere is kept with the text for handlers to
//! look at; nothing is ever fetched from it.
//!
//! With an `Idempotency-Key` header, the same report again is the same report.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use http::{HeaderMap, StatusCode, Uri, header};
use jiff::Timestamp;
use samen_proto::options::Role;
use samen_proto::requests::*;
use samen_server::Caller;
use samen_server::calendar::zone;
use samen_server::calls::{command, wait};
use samen_server::reply::{self, Check};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use uuid::Uuid;

use super::document::{Document, Value};
use super::parameters::Parameters;
use super::refused::Refused;
use super::{Answered, Open311, services};
use crate::Requests;
use crate::api::{intake, photos};
use crate::domain::request::MAX_PHOTOS;
use crate::photos::Cleaned;

/// A body with photos.
pub const MAX_BODY: usize = 32 << 20;
/// Of those, how many are in memory at the same time; and of those that bring
/// photos before a key that is known, so that they keep nobody else waiting.
pub const BODIES: usize = 8;
pub const STRANGERS: usize = 2;
/// A form without photos.
const MAX_FORM: usize = 128 << 10;
/// How long a client may take to send it.
const READ: Duration = Duration::from_secs(120);
/// How long an answer waits until lists have what was reported.
const VISIBLE: Duration = Duration::from_secs(5);

/// Longest texts, in characters.
const DESCRIPTION: usize = 4_000;
const MEDIA_URL: usize = 900;
const ADDRESS: usize = 400;
const ADDRESS_ID: usize = 50;
const NAME: usize = 99;
const EMAIL: usize = 254;
const PHONE: usize = 30;
const OTHER: usize = 200;

/// Under which keys of clients are made ids of commands.
const KEYS: Uuid = Uuid::from_u128(0x3e1c_6a52_9f0c_5d0e_8b1a_5a6d_656e_0311);

/// What a body brought.
#[derive(Default)]
struct Form<'a> {
    parameters: Parameters,
    photos: Vec<Bytes>,
    /// Held while its photos are in memory.
    permit: Option<SemaphorePermit<'a>>,
}

pub async fn requests(service: &Requests, query: Parameters, request: Request) -> Answered {
    let idempotency = idempotency(request.headers())?;
    let mut form = read(service, query, request).await?;
    form.parameters.jurisdiction(service)?;
    let mut check = Check::default();
    let key = form.parameters.one(&mut check, "api_key");
    check.finish()?;
    let client = service.open311.keys.admit(key)?;
    let caller = Arc::new(Caller {
        id: format!("open311/{client}"),
        // Who writes down what somebody else said.
        roles: vec![Role::Handler],
        certificate: None,
        expires: None,
    });
    let request_id = match idempotency {
        Some(key) => Uuid::new_v5(&KEYS, format!("{client}\0{key}").as_bytes()),
        None => Uuid::now_v7(),
    };
    let message = message(service, &form.parameters, request_id).await?;
    // First whether all of it can be taken, then any of it.
    let cleaned = clean(service, std::mem::take(&mut form.photos)).await?;
    let filed = intake::file(service, called(&caller, message)).await?;
    let kept = keep(service, &caller, request_id, &filed.id, cleaned).await;
    // What is not seen in time is seen soon.
    let seen = wait(service, filed.position.as_ref());
    let _: Result<_, _> = timeout(VISIBLE, seen).await;
    Ok(answer(&filed, kept))
}

fn answer(filed: &FileRequestResponse, photos_kept: bool) -> Document {
    let mut notices = Vec::new();
    if !filed.other_municipality.is_empty() {
        notices.push("Deze plek ligt in een andere gemeente. Wij kijken wie het oppakt.");
    }
    if !filed.duplicates.is_empty() {
        notices.push("Dit is misschien al gemeld.");
    }
    if !photos_kept {
        notices.push("Uw foto's zijn niet goed aangekomen.");
    }
    let request = Value::Object(vec![
        ("service_request_id", filed.number.to_string().into()),
        ("service_notice", Value::or_nothing(&notices.join(" "))),
        ("account_id", Value::Nothing),
    ]);
    let requests = Value::List("request", vec![request]);
    Document { root: "service_requests", value: requests }
}

fn called<T>(caller: &Arc<Caller>, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(caller.clone());
    request
}

fn idempotency(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=200).contains(&key.len()));
    let key = key.ok_or_else(|| bad("Idempotency-Key: must be 1 to 200 characters of ASCII"))?;
    Ok(Some(key.to_owned()))
}

// --- the body

async fn read(
    service: &Requests,
    query: Parameters,
    request: Request,
) -> Result<Form<'_>, Refused> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_lowercase();
    let mut form = Form { parameters: query, ..Form::default() };
    let reading = async {
        match kind.split(';').next().unwrap_or_default().trim() {
            "multipart/form-data" => form.multipart(&service.open311, request).await,
            "application/x-www-form-urlencoded" | "" => {
                let body = to_bytes(request.into_body(), MAX_FORM).await;
                let body = body.map_err(|_| too_large(MAX_FORM))?;
                form.parameters.extend(Parameters::parse(&body));
                Ok(())
            }
            _ => Err(bad(
                "Content-Type: must be application/x-www-form-urlencoded or multipart/form-data",
            )),
        }
    };
    let late = Refused::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
    timeout(READ, reading).await.unwrap_or(Err(late))?;
    Ok(form)
}

impl<'a> Form<'a> {
    async fn multipart(&mut self, door: &'a Open311, request: Request) -> Result<(), Refused> {
        let parts = Multipart::from_request(request, &()).await;
        let mut parts = parts.map_err(|_| bad("Content-Type: must have a boundary"))?;
        let mut left = MAX_FORM;
        while let Some(part) = parts.next_field().await.map_err(malformed)? {
            let name = part.name().unwrap_or_default().to_owned();
            if part.file_name().is_some() {
                self.file(door, &name, part).await?;
                continue;
            }
            let text = text(part, &mut left).await?;
            let text = String::from_utf8(text);
            let text = text.map_err(|_| bad(&format!("{name:.100}: must be UTF-8")))?;
            self.parameters.push(name, text);
        }
        Ok(())
    }

    async fn file(
        &mut self,
        door: &'a Open311,
        name: &str,
        part: Field<'_>,
    ) -> Result<(), Refused> {
        if self.permit.is_none() {
            let key = self.parameters.one(&mut Check::default(), "api_key");
            let known = key.is_some_and(|key| door.keys.knows(key));
            let bodies = if known { &door.bodies } else { &door.strangers };
            self.permit = bodies.acquire().await.ok();
        }
        let photo = part.bytes().await.map_err(malformed)?;
        match name {
            // A file that was not chosen.
            _ if photo.is_empty() => {}
            "media" | "media[]" if self.photos.len() == MAX_PHOTOS => {
                return Err(bad(&format!("media: must be at most {MAX_PHOTOS} photos")));
            }
            "media" | "media[]" => self.photos.push(photo),
            other => return Err(bad(&format!("{other:.100}: photos come as media, or media[]"))),
        }
        Ok(())
    }
}

/// A part that is no file, while there is room for it.
async fn text(mut part: Field<'_>, left: &mut usize) -> Result<Vec<u8>, Refused> {
    let mut text = Vec::new();
    while let Some(piece) = part.chunk().await.map_err(malformed)? {
        *left = left.checked_sub(piece.len()).ok_or_else(|| too_large(MAX_FORM))?;
        text.extend(piece);
    }
    Ok(text)
}

fn malformed(error: MultipartError) -> Refused {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(MAX_BODY),
        _ => bad("the body is not the form that its Content-Type says"),
    }
}

fn bad(description: &str) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, description)
}

fn too_large(most: usize) -> Refused {
    let text = format!("the body must be at most {most} bytes");
    Refused::new(StatusCode::PAYLOAD_TOO_LARGE, &text)
}

// --- what it says

async fn message(
    service: &Requests,
    form: &Parameters,
    request_id: Uuid,
) -> Result<FileRequestRequest, Refused> {
    let mut check = Check::default();
    let code = form.one(&mut check, "service_code");
    check.require(code.is_some(), "service_code", "must be given");
    let description = form.text(&mut check, "description", DESCRIPTION);
    let media_url = media_url(&mut check, form);
    let address = address(&mut check, form);
    let location = location(&mut check, form);
    let placed = location.is_some() || !address.is_empty();
    let given = ["lat", "long"].iter().any(|name| form.one(&mut check, name).is_some());
    let allowed = "must be given with long, or else address_string or address_id";
    check.require(placed || given, "lat", allowed);
    let reporter = reporter(&mut check, form);
    for name in ["device_id", "account_id"] {
        form.text(&mut check, name, OTHER);
    }
    check.finish()?;

    let code = code.unwrap_or_default();
    let register = service.register_for(code).await?;
    let category = services::find(&register, code).ok_or_else(|| services::unknown(code))?;
    let mut check = Check::default();
    let answers = answers(&mut check, form, &category.questions);
    check.finish()?;
    // Who says no more than what it is about says that.
    let about = || category.name.as_ref().map_or(code, |name| &name.nl).to_owned();
    let description = if description.is_empty() { about() } else { description };
    let description = [description, media_url].join("\n").trim().to_owned();
    Ok(FileRequestRequest {
        request_id: request_id.to_string(),
        category: code.to_owned(),
        description,
        location,
        channel: Channel::Open311.into(),
        contact_consent: !(reporter.email.is_empty() && reporter.phone.is_empty()),
        reporter: Some(reporter),
        address,
        answers,
        ..FileRequestRequest::default()
    })
}

fn media_url(check: &mut Check, form: &Parameters) -> String {
    let url = form.text(check, "media_url", MEDIA_URL);
    let scheme = url.parse::<Uri>().ok().and_then(|url| url.scheme_str().map(str::to_owned));
    let web = scheme.is_some_and(|scheme| ["http", "https"].contains(&scheme.as_str()));
    check.require(url.is_empty() || web, "media_url", "must be an http or https address");
    url
}

fn address(check: &mut Check, form: &Parameters) -> String {
    let address = form.text(check, "address_string", ADDRESS);
    let id = form.text(check, "address_id", ADDRESS_ID);
    let id = if id.is_empty() { id } else { format!("(address_id {id})") };
    [address, id].join(" ").trim().to_owned()
}

fn location(check: &mut Check, form: &Parameters) -> Option<Location> {
    let mut degrees = |name: &str, other: &str| {
        let text = form.one(check, name)?;
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        check.require(number.is_some(), name, "must be degrees, such as 52.352");
        let both = form.one(check, other).is_some();
        check.require(both, other, &format!("must be given with {name}"));
        number
    };
    let (latitude, longitude) = (degrees("lat", "long"), degrees("long", "lat"));
    Some(Location { latitude: latitude?, longitude: longitude? })
}

fn reporter(check: &mut Check, form: &Parameters) -> Reporter {
    let names = ["first_name", "last_name"].map(|name| form.text(check, name, NAME));
    Reporter {
        name: names.join(" ").trim().to_owned(),
        email: form.text(check, "email", EMAIL),
        phone: form.text(check, "phone", PHONE),
    }
}

/// `attribute[code]`, and `attribute[code][]` for each of several values.
fn answers(check: &mut Check, form: &Parameters, questions: &[Question]) -> Vec<Answer> {
    let mut answers: Vec<Answer> = Vec::new();
    for (name, value) in form.iter() {
        let Some(code) = name.strip_prefix("attribute[") else { continue };
        let code = code.strip_suffix("[]").unwrap_or(code).strip_suffix(']');
        let question = questions.iter().find(|question| code == Some(question.code.as_str()));
        let Some(question) = question else {
            check.fail(&format!("{name:.100}"), "is not an attribute of this service");
            continue;
        };
        let value = match question.kind() {
            QuestionKind::Text => value.replace("\r\n", "\n"),
            QuestionKind::Date => day(value.trim()),
            _ => value.trim().to_owned(),
        };
        match answers.iter_mut().find(|answer| answer.question == question.code) {
            Some(answer) => answer.values.push(value),
            None => answers.push(Answer { question: question.code.clone(), values: vec![value] }),
        }
    }
    answers
}

/// The day of a moment here; what is none stays what it is.
fn day(value: &str) -> String {
    let moment = value.parse::<Timestamp>();
    moment.map_or(value.to_owned(), |at| zone().to_datetime(at).date().to_string())
}

// --- photos

async fn clean(service: &Requests, photos: Vec<Bytes>) -> Result<Vec<Cleaned>, Refused> {
    if photos.is_empty() {
        return Ok(Vec::new());
    }
    let kept = service.photos.as_ref();
    let kept = kept.ok_or_else(|| bad("media: photos are not kept here"))?;
    let mut cleaned = Vec::new();
    for photo in photos {
        let photo = kept.accept(photo.into()).await;
        let photo = photo.map_err(|fault| reply::invalid("content", &fault.to_string()))?;
        cleaned.push(photo);
    }
    Ok(cleaned)
}

/// Adds them to what was filed. It was taken, whatever becomes of them: who
/// was told otherwise would report it again.
async fn keep(
    service: &Requests,
    caller: &Caller,
    request_id: Uuid,
    id: &str,
    photos: Vec<Cleaned>,
) -> bool {
    let mut kept = true;
    for (place, photo) in photos.iter().enumerate() {
        let message = AddPhotoRequest {
            request_id: Uuid::new_v5(&request_id, &place.to_be_bytes()).to_string(),
            id: id.to_owned(),
            content: photo.bytes().to_vec(),
        };
        let command = command(caller, "AddPhoto", &message.request_id, &message);
        if let Err(refusal) = photos::add(service, command, id, photo).await {
            tracing::error!(request = %id, %refusal, "a photo of a report cannot be kept");
            kept = false;
        }
    }
    kept
}
