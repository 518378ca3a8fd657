use std::io::Cursor;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use image::{ImageFormat, Rgb, RgbImage};
use samen_log::{Append, Keyring, Location, Log, MasterKey, NewEvent, Tasks};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::photos::image::{Cleaned, Media};
use crate::photos::link::LIFETIME;
use crate::photos::sweep::Sweep;
use crate::photos::{Links, PhotoFault, PhotoId, PhotoStore, StoreError};

/// A service's photos, and what stands around them.
struct Service {
    photos: Photos,
    log: Log,
    keyring: Keyring,
    folder: TempDir,
}

impl Service {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let location = Location::Folder(folder.path().to_owned());
        let log = Log::open(&location, "test", CancellationToken::new()).await.expect("a log");
        let master = MasterKey::generate(false);
        let keyring = Keyring::new(log.schema().clone(), &master, "test");
        let store = PhotoStore::folder(&folder.path().join("photos")).expect("a store");
        let photos = Photos::new(store, Links::new(&master), keyring.clone());
        Service { photos, log, keyring, folder }
    }

    /// Takes a photo in, as a command does.
    async fn keep(&self, photo: &Cleaned) -> PhotoId {
        let id = PhotoId::generate();
        let (key, new) = self.photos.new_key(id);
        self.photos.store.put(id, &key, photo).await.expect("it is kept");
        let event = NewEvent { stream: id.to_string(), kind: "Attached".into(), data: Vec::new() };
        let append = Append {
            actor: "somebody".to_owned(),
            events: vec![event],
            keys: vec![new],
            ..Append::default()
        };
        self.log.append(append).await.expect("it is recorded");
        id
    }

    fn link(&self, id: PhotoId) -> String {
        self.photos.links.path(id, Timestamp::now() + LIFETIME)
    }

    async fn get(&self, path: &str) -> Response {
        let request = Request::builder().uri(path).body(Body::empty()).expect("a request");
        router(self.photos.clone()).oneshot(request).await.expect("an answer")
    }

    async fn kept(&self) -> Vec<PhotoId> {
        use futures::TryStreamExt;
        self.photos.store.list().try_collect().await.expect("the photos are listed")
    }
}

fn png() -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    let picture = RgbImage::from_pixel(8, 6, Rgb([10, 120, 200]));
    picture.write_to(&mut png, ImageFormat::Png).expect("a PNG");
    png.into_inner()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

/// What a visitor is told who gets no photo: nothing.
async fn assert_nothing(response: Response, status: StatusCode) {
    assert_eq!(response.status(), status);
    assert_eq!(header(&response, "cache-control"), "no-store");
    let body = to_bytes(response.into_body(), 1_000).await.expect("a body");
    assert!(body.is_empty(), "{}", body.escape_ascii());
}

#[tokio::test]
async fn a_link_shows_its_photo_and_hardens_the_browser() {
    let service = Service::start().await;
    let photo = service.photos.accept(png()).await.expect("a photo");
    assert_eq!(photo.media(), Media::Png);
    let id = service.keep(&photo).await;

    let response = service.get(&service.link(id)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "content-type"), "image/png");
    assert_eq!(header(&response, "content-disposition"), "inline");
    assert_eq!(header(&response, "x-content-type-options"), "nosniff");
    assert_eq!(header(&response, "referrer-policy"), "no-referrer");
    assert!(
        header(&response, "content-security-policy").starts_with("default-src 'none'; sandbox")
    );
    let cached = header(&response, "cache-control").strip_prefix("private, max-age=");
    let seconds: u64 = cached.and_then(|text| text.parse().ok()).expect("a time to keep it");
    assert!(seconds <= LIFETIME.as_secs(), "kept for {seconds} s");
    let body = to_bytes(response.into_body(), 10_000).await.expect("a body");
    assert_eq!(body, photo.bytes());
}

#[tokio::test]
async fn whoever_has_no_link_learns_nothing() {
    let service = Service::start().await;
    let photo = service.photos.accept(png()).await.expect("a photo");
    let id = service.keep(&photo).await;

    let ended = service.photos.links.path(id, Timestamp::now());
    let other = Links::new(&MasterKey::generate(false)).path(id, Timestamp::now() + LIFETIME);
    let never = service.link(PhotoId::generate());
    let cut = service.link(id);
    let paths = [
        ended.as_str(),
        &other,
        &never,
        &cut[..cut.len() - 1],
        &format!("/photos/{id}"),
        "/photos/%00",
        "/photos/..%2F..%2Fkeys",
    ];
    for path in paths {
        let response = service.get(path).await;
        assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{path}");
        assert_nothing(response, StatusCode::NOT_FOUND).await;
    }
}

#[tokio::test]
async fn what_was_forgotten_is_not_shown_and_then_deleted() {
    let service = Service::start().await;
    let photo = service.photos.accept(png()).await.expect("a photo");
    let [forgotten, other] = [service.keep(&photo).await, service.keep(&photo).await];
    // Its command was never recorded, or stands in another's database.
    let unknown = PhotoId::generate();
    let (key, _) = service.photos.new_key(unknown);
    service.photos.store.put(unknown, &key, &photo).await.expect("it is kept");
    let sweep = Sweep::new(&service.photos.store, &service.keyring, &Tasks::default());
    assert_eq!(sweep.look().await.expect("it looks"), 0);

    service.keyring.destroy([forgotten.key_id().as_str()]).await.expect("it is forgotten");
    assert_nothing(service.get(&service.link(forgotten)).await, StatusCode::NOT_FOUND).await;
    assert_nothing(service.get(&service.link(unknown)).await, StatusCode::NOT_FOUND).await;
    assert_eq!(service.kept().await.len(), 3);

    assert_eq!(sweep.look().await.expect("it looks"), 1);
    assert_eq!(sweep.look().await.expect("it looks again"), 0);
    let mut kept = service.kept().await;
    kept.sort();
    assert_eq!(kept, [other, unknown]);
    assert_eq!(service.get(&service.link(other)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_altered_photo_is_not_shown() {
    let service = Service::start().await;
    let photo = service.photos.accept(png()).await.expect("a photo");
    let id = service.keep(&photo).await;
    let object = service.folder.path().join("photos").join(id.to_string());
    std::fs::write(object, png()).expect("altered");
    let read = service.photos.read(id).await;
    assert!(matches!(read, Err(crate::photos::ReadError::Store(StoreError::Altered(_)))));
    assert_nothing(service.get(&service.link(id)).await, StatusCode::SERVICE_UNAVAILABLE).await;
}

#[tokio::test]
async fn many_are_taken_in_at_once_and_each_gets_its_own_answer() {
    let service = Service::start().await;
    let asked = (0..20).map(|number| {
        let bytes = if number % 2 == 0 { png() } else { b"GIF89a".to_vec() };
        service.photos.accept(bytes)
    });
    let answers = futures::future::join_all(asked).await;
    for (number, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(photo) => assert!(number % 2 == 0 && photo.media() == Media::Png),
            Err(fault) => assert!(number % 2 == 1 && fault == PhotoFault::NotAPhoto),
        }
    }
}

#[tokio::test]
async fn who_gives_up_waiting_takes_nobodys_turn() {
    let service = Service::start().await;
    for _ in 0..10 {
        let given_up = service.photos.accept(png());
        let _ = tokio::time::timeout(Duration::ZERO, given_up).await;
    }
    assert!(service.photos.accept(png()).await.is_ok());
}
