//! Photos of requests: who adds and sees them, what is left of them, and when
//! they are gone.

use std::io::Cursor;
use std::path::Path;

use image::{GenericImageView, ImageFormat, Rgb, RgbImage};
use jiff::Timestamp;
use samen_log::MasterKey;
use samen_proto::privacy::RedactTextRequest;
use samen_proto::requests::photo_service_client::PhotoServiceClient;
use samen_proto::requests::*;
use samen_requests::photos::link::LIFETIME;
use samen_requests::photos::{Links, PhotoId};
use samen_tests::deployment::{Authorised, Deployment, Setup};
use samen_tests::{eventually, web};
use tempfile::TempDir;
use tonic::Code;

use super::in_both_setups;
use super::shared::{SOON, new_id, refused, report};

in_both_setups!(
    a_photo_is_shown_without_what_it_told_besides,
    what_is_no_photo_is_refused_by_its_content,
    who_may_not_see_a_request_learns_nothing_of_its_photos,
    a_link_holds_for_a_while_and_as_it_was_given,
    with_the_texts_of_a_request_its_photos_go,
);

pub type Photos = PhotoServiceClient<Authorised>;

/// What a phone writes into a photo.
const PLACE: &str = "52.3391N 4.9616E";
const WIDTH: u32 = 48;
const HEIGHT: u32 = 32;

/// A deployment that keeps its photos in this folder.
async fn start(setup: Setup) -> (Deployment, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_str().expect("a path in UTF-8");
    let deployment = Deployment::start_with(setup, &[("SAMEN_PHOTOS", place)]).await;
    (deployment, folder)
}

async fn photos(deployment: &Deployment, subject: &str, role: &str) -> Photos {
    PhotoServiceClient::new(deployment.at_requests(subject, &[role]).await)
}

async fn file(deployment: &Deployment) -> String {
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    zoe.file_request(report("De lamp is kapot")).await.expect("filed").into_inner().id
}

pub fn picture(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = RgbImage::from_pixel(WIDTH, HEIGHT, Rgb([20, 20, 220]));
    picture.write_to(&mut bytes, format).expect("a picture");
    bytes.into_inner()
}

/// A JPEG whose EXIF says where it was taken.
pub fn located() -> Vec<u8> {
    let plain = picture(ImageFormat::Jpeg);
    let mut tiff = b"II*\0\x08\0\0\0\x01\0".to_vec();
    // The artist, as text behind the only entry.
    tiff.extend(0x013b_u16.to_le_bytes());
    tiff.extend(2_u16.to_le_bytes());
    tiff.extend((PLACE.len() as u32 + 1).to_le_bytes());
    tiff.extend(26_u32.to_le_bytes());
    tiff.extend(0_u32.to_le_bytes());
    tiff.extend(PLACE.as_bytes());
    tiff.push(0);
    let length = (tiff.len() as u16 + 8).to_be_bytes();
    [&plain[..2], &[0xff, 0xe1], &length, b"Exif\0\0", &tiff, &plain[2..]].concat()
}

pub fn add(id: &str, content: Vec<u8>) -> AddPhotoRequest {
    AddPhotoRequest { request_id: new_id(), id: id.to_owned(), content }
}

pub async fn link(photos: &mut Photos, id: &str, photo_id: &str) -> GetPhotoLinkResponse {
    let ask = GetPhotoLinkRequest { id: id.to_owned(), photo_id: photo_id.to_owned() };
    photos.get_photo_link(ask).await.expect("a link").into_inner()
}

/// What a link shows: its head, in small letters, and the picture.
pub async fn show(deployment: &Deployment, path: &str) -> (String, Vec<u8>) {
    let answer = web::get_bytes(&deployment.reports_address(), path).await.expect("an answer");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("text").to_lowercase();
    (head, answer[end + 4..].to_vec())
}

pub async fn assert_nothing(deployment: &Deployment, path: &str) {
    let (head, body) = show(deployment, path).await;
    assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
    assert!(body.is_empty(), "{path}: {}", body.escape_ascii());
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// All files below a folder.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("read"));
    let count = |path: &Path| if path.is_dir() { files(path) } else { 1 };
    entries.map(|entry| count(&entry.path())).sum()
}

async fn a_photo_is_shown_without_what_it_told_besides(setup: Setup) {
    let (deployment, folder) = start(setup).await;
    let id = file(&deployment).await;
    let mut zoe = photos(&deployment, "zoe", "resident").await;
    let mut handler = photos(&deployment, "h", "handler").await;
    let sent = located();
    assert!(has(&sent, PLACE) && has(&sent, "Exif"));

    let command = add(&id, sent);
    let first = zoe.add_photo(command.clone()).await.expect("added").into_inner();
    let again = zoe.add_photo(command).await.expect("the same").into_inner();
    assert_eq!(first, again);
    let second = handler.add_photo(add(&id, picture(ImageFormat::Png))).await;
    let second = second.expect("added").into_inner();
    let third = zoe.add_photo(add(&id, picture(ImageFormat::WebP))).await;
    let third = third.expect("added").into_inner();
    assert_eq!(files(folder.path()), 3);

    let mut requests = deployment.requests("h", &["handler"]).await;
    let get = GetRequestRequest { id: id.clone(), at_least: third.position };
    let seen = requests.get_request(get).await.expect("seen").into_inner();
    let photo_ids = [first.photo_id, second.photo_id, third.photo_id];
    assert_eq!(seen.request.expect("a request").photo_ids, photo_ids);

    for (photo_id, kind) in photo_ids.iter().zip(["jpeg", "png", ""]) {
        for reader in [&mut zoe, &mut handler] {
            let link = link(reader, &id, photo_id).await;
            let (head, shown) = show(&deployment, &link.path).await;
            assert!(head.starts_with("http/1.1 200"), "{head}");
            assert!(head.contains(&format!("content-type: image/{kind}")), "{head}");
            for header in [
                "cache-control: private, max-age=",
                "content-security-policy: default-src 'none'; sandbox",
                "referrer-policy: no-referrer",
                "x-content-type-options: nosniff",
            ] {
                assert!(head.contains(header), "{header}: {head}");
            }
            assert!(!has(&shown, PLACE) && !has(&shown, "Exif"));
            let shown = image::load_from_memory(&shown).expect("a picture");
            assert_eq!(shown.dimensions(), (WIDTH, HEIGHT));
        }
    }

    // Taken away, it is given to nobody any more.
    let remove = RemovePhotoRequest {
        request_id: new_id(),
        id: id.clone(),
        expected_version: third.version,
        photo_id: photo_ids[0].clone(),
    };
    handler.remove_photo(remove).await.expect("removed");
    let ask = GetPhotoLinkRequest { id, photo_id: photo_ids[0].clone() };
    let refusal = zoe.get_photo_link(ask).await.expect_err("taken away");
    assert_eq!(refusal.code(), Code::NotFound);
}

async fn what_is_no_photo_is_refused_by_its_content(setup: Setup) {
    let (deployment, folder) = start(setup).await;
    let id = file(&deployment).await;
    let mut zoe = photos(&deployment, "zoe", "resident").await;
    let whole = picture(ImageFormat::Jpeg);
    let wrong: [&[u8]; 7] = [
        b"",
        b"photo.jpg",
        b"<html><script>alert(1)</script></html>",
        b"%PDF-1.7 photo.jpg",
        b"GIF89a\x01\0\x01\0\0\0\0;",
        &whole[..whole.len() / 2],
        &[whole.as_slice(), &vec![0; 10 << 20]].concat(),
    ];
    for content in wrong {
        let answer = zoe.add_photo(add(&id, content.to_vec())).await;
        assert_eq!(refused(answer, Code::InvalidArgument, "INVALID_FIELD"), ["content"]);
    }
    assert_eq!(files(folder.path()), 0);
    // Ten, and no more.
    for _ in 0..10 {
        zoe.add_photo(add(&id, whole.clone())).await.expect("added");
    }
    let answer = zoe.add_photo(add(&id, whole)).await;
    assert_eq!(answer.expect_err("one too many").code(), Code::FailedPrecondition);
    assert_eq!(files(folder.path()), 10);
}

async fn who_may_not_see_a_request_learns_nothing_of_its_photos(setup: Setup) {
    let (deployment, folder) = start(setup).await;
    let id = file(&deployment).await;
    let mut zoe = photos(&deployment, "zoe", "resident").await;
    let added = zoe.add_photo(add(&id, picture(ImageFormat::Png))).await.expect("added");
    let photo_id = added.into_inner().photo_id;
    for (subject, role) in [("other", "resident"), ("jan", "network"), ("zoe", "network")] {
        let mut other = photos(&deployment, subject, role).await;
        let mut refusals = Vec::new();
        for id in [id.clone(), new_id()] {
            let ask = GetPhotoLinkRequest { id: id.clone(), photo_id: photo_id.clone() };
            let asked = other.get_photo_link(ask).await.expect_err("not theirs");
            let added = other.add_photo(add(&id, picture(ImageFormat::Png))).await;
            let added = added.expect_err("not theirs");
            assert_eq!((asked.code(), added.code()), (Code::NotFound, Code::NotFound));
            let told = [asked.message(), added.message()].map(|text| text.replace(&id, ""));
            refusals.push(told);
        }
        assert_eq!(refusals[0], refusals[1], "as if there were none");
    }
    // Neither by a request of one's own.
    let mut other = deployment.requests("other", &["resident"]).await;
    let own = other.file_request(report("Van een ander")).await.expect("filed").into_inner().id;
    let mut other = photos(&deployment, "other", "resident").await;
    let refusal = other.get_photo_link(GetPhotoLinkRequest { id: own, photo_id }).await;
    assert_eq!(refusal.expect_err("not of theirs").code(), Code::NotFound);
    let mut lead = photos(&deployment, "l", "process_lead").await;
    let answer = lead.add_photo(add(&id, picture(ImageFormat::Png))).await;
    refused(answer, Code::PermissionDenied, "ROLE_MISSING");
    assert_eq!(files(folder.path()), 1);
}

async fn a_link_holds_for_a_while_and_as_it_was_given(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    let id = file(&deployment).await;
    let mut zoe = photos(&deployment, "zoe", "resident").await;
    let mut photo_ids = Vec::new();
    for _ in 0..2 {
        let added = zoe.add_photo(add(&id, picture(ImageFormat::Png))).await.expect("added");
        photo_ids.push(added.into_inner().photo_id);
    }
    let given = link(&mut zoe, &id, &photo_ids[0]).await;
    let other = link(&mut zoe, &id, &photo_ids[1]).await;
    let now = Timestamp::now().as_second();
    let left = given.expire_time.expect("it ends").seconds - now;
    assert!((1..=LIFETIME.as_secs() as i64).contains(&left), "{left} s");
    let (head, _) = show(&deployment, &given.path).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");

    // One's id and end with the other's signature, and other ways to alter it.
    let token = given.path.strip_prefix("/photos/").expect("a photo's path");
    let (said, _) = given.path.split_at(given.path.len() - 22);
    let (_, signed) = other.path.split_at(other.path.len() - 22);
    for path in [
        format!("{said}{signed}"),
        format!("{}A", given.path),
        given.path[..given.path.len() - 1].to_owned(),
        format!("/photos/{}", photo_ids[0]),
        format!("/photos/%00{token}"),
    ] {
        assert_nothing(&deployment, &path).await;
    }

    // Its time is over when it says so.
    let master = MasterKey::load(deployment.master_key().as_ref()).expect("the master key");
    let photo = PhotoId::parse(&photo_ids[0]).expect("a photo's id");
    let links = Links::new(&master);
    let (head, _) = show(&deployment, &links.path(photo, Timestamp::now() + LIFETIME)).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_nothing(&deployment, &links.path(photo, Timestamp::now())).await;
}

async fn with_the_texts_of_a_request_its_photos_go(setup: Setup) {
    let (mut deployment, folder) = start(setup).await;
    let (id, kept) = (file(&deployment).await, file(&deployment).await);
    let mut zoe = photos(&deployment, "zoe", "resident").await;
    let mut handler = photos(&deployment, "h", "handler").await;
    let mut paths = Vec::new();
    for (id, photos) in [(&id, &mut zoe), (&id, &mut handler.clone()), (&kept, &mut handler)] {
        let added = photos.add_photo(add(id, located())).await.expect("added").into_inner();
        paths.push(link(photos, id, &added.photo_id).await.path);
    }
    let mut officer = deployment.requests_privacy("officer", &["privacy_officer"]).await;
    let redact = RedactTextRequest {
        request_id: new_id(),
        stream: format!("request/{id}"),
        versions: vec![],
        ..Default::default()
    };
    officer.redact_text(redact).await.expect("forgotten");
    for path in &paths[..2] {
        assert_nothing(&deployment, path).await;
    }
    let (head, _) = show(&deployment, &paths[2]).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");

    // What is left of them goes when it is looked for, as after a start.
    deployment.stop().await;
    deployment.restart().await;
    eventually(SOON, "the photos that were forgotten are gone", async || {
        (files(folder.path()) == 1).then_some(())
    })
    .await;
    let (head, _) = show(&deployment, &paths[2]).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
}
