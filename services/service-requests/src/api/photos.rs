//! Photos of requests.

use jiff::Timestamp;
use samen_log::{Aggregate, Command, Outcome};
use samen_proto::options::Role;
use samen_proto::requests::photo_service_server::PhotoService;
use samen_proto::requests::*;
use samen_server::Caller;
use samen_server::access::caller;
use samen_server::calls;
use samen_server::reply::{self, Check, not_found};
use samen_server::time::to_proto;
use sha2::{Digest, Sha256};
use tonic::{Code, Request, Response, Status as Refusal};

use super::Answer;
use super::does::{self, Along};
use crate::Requests;
use crate::domain::request::{Request as Aggregated, RequestCommand, RequestEvent};
use crate::photos::{Cleaned, PhotoId, Photos, link};

/// Bytes of a message that brings a photo.
pub const MAX_MESSAGE_BYTES: usize = 11 << 20;

#[tonic::async_trait]
impl PhotoService for Requests {
    async fn add_photo(&self, r: Request<AddPhotoRequest>) -> Answer<AddPhotoResponse> {
        let caller = caller(&r)?;
        let mut m = r.into_inner();
        let mut check = Check::default();
        check.request_id(&m.request_id);
        check.id("id", &m.id);
        check.finish()?;
        let photos = self.kept_photos()?;
        self.may_show(&caller, &m.id).await?;
        let command = calls::command(&caller, "AddPhoto", &m.request_id, &m);
        let content = std::mem::take(&mut m.content);
        let cleaned = photos.accept(content).await;
        let cleaned = cleaned.map_err(|fault| reply::invalid("content", &fault.to_string()))?;
        add(self, command, &m.id, &cleaned).await.map(Response::new)
    }

    async fn remove_photo(&self, r: Request<RemovePhotoRequest>) -> Answer<RemovePhotoResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut check = Check::default();
        check.request_id(&m.request_id);
        check.id("id", &m.id);
        check.id("photo_id", &m.photo_id);
        check.finish()?;
        let command = calls::command(&caller, "RemovePhoto", &m.request_id, &m);
        let what = RequestCommand::RemovePhoto { photo: m.photo_id };
        let expected = Some(m.expected_version);
        let done = does::command(self, command, &m.id, expected, what, Along::default()).await?;
        let Outcome { version, position, .. } = done;
        Ok(Response::new(RemovePhotoResponse { version, position: Some(position) }))
    }

    async fn get_photo_link(
        &self,
        r: Request<GetPhotoLinkRequest>,
    ) -> Answer<GetPhotoLinkResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut check = Check::default();
        check.id("id", &m.id);
        check.id("photo_id", &m.photo_id);
        check.finish()?;
        let photos = self.kept_photos()?;
        self.may_show(&caller, &m.id).await?;
        let (request, _) = self.with_guard(&m.id).await?;
        let photo = PhotoId::parse(&m.photo_id).filter(|_| request.photos.contains(&m.photo_id));
        let photo = photo.ok_or_else(|| not_found("photo", &m.photo_id))?;
        let until = Timestamp::now() + link::LIFETIME;
        let path = photos.links.path(photo, until);
        Ok(Response::new(GetPhotoLinkResponse { path, expire_time: Some(to_proto(until)) }))
    }
}

/// Adds what is kept of a photo to a request.
pub async fn add(
    service: &Requests,
    mut command: Command,
    id: &str,
    cleaned: &Cleaned,
) -> Result<AddPhotoResponse, Refusal> {
    let photos = service.kept_photos()?;
    // Kept before it is said to be there; until then nobody can open it.
    let photo = PhotoId::generate();
    let (key, new) = photos.new_key(photo);
    let info = PhotoInfo { sha256: Sha256::digest(cleaned.bytes()).to_vec() };
    let added = PhotoAdded {
        id: id.to_owned(),
        photo_id: photo.to_string(),
        content_type: cleaned.media().content_type().to_owned(),
        size_bytes: cleaned.bytes().len() as u64,
        info: Some(key.seal(&info)),
    };
    photos.store.put(photo, &key, cleaned).await.map_err(reply::unavailable)?;
    command.keys.push((key, new));
    let what = RequestCommand::AddPhoto(added);
    let done = does::command(service, command, id, None, what, Along::default()).await;
    let kept = match &done {
        Ok(outcome) => Some(service.photo_of(outcome).await?),
        Err(_) => None,
    };
    if kept.as_deref() != Some(photo.to_string().as_str()) {
        // Refused, or added by the same command before.
        photos.store.delete(photo).await.map_err(reply::unavailable)?;
    }
    let Outcome { version, position, .. } = done?;
    let (photo_id, position) = (kept.unwrap_or_default(), Some(position));
    Ok(AddPhotoResponse { photo_id, version, position })
}

impl Requests {
    fn kept_photos(&self) -> Result<&Photos, Refusal> {
        self.photos.as_ref().ok_or_else(|| {
            reply::status(Code::FailedPrecondition, "NO_PHOTOS", "photos are not kept here")
        })
    }

    /// Who may see a request's photos, and add to them: handlers, its reporter,
    /// and members of the network that takes care of it.
    async fn may_show(&self, caller: &Caller, id: &str) -> Result<(), Refusal> {
        if caller.has(Role::Handler) {
            return Ok(());
        }
        if caller.has(Role::Network) && self.task_of(caller, id).await.is_ok() {
            return Ok(());
        }
        if caller.has(Role::Resident) {
            return self.own(&caller.id, id).await;
        }
        Err(not_found("request", id))
    }

    /// The photo that a command added, the first time and any time after.
    async fn photo_of(&self, outcome: &Outcome) -> Result<String, Refusal> {
        let last = outcome.position.position;
        let records = self.log.read(last - 1, 1).await.map_err(reply::storage)?;
        let event = records.first().and_then(|r| samen_log::command::decode(r).ok().flatten());
        match event {
            Some(RequestEvent::PhotoAdded(added)) => Ok(added.photo_id),
            _ => Err(reply::unavailable(format!("{} brought no photo", Aggregated::KIND))),
        }
    }
}
