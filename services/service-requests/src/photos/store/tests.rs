use std::os::unix::fs::PermissionsExt;

use futures::TryStreamExt;
use samen_log::{Keyring, Location, Log, MasterKey};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::photos::image::clean;

/// A small photo.
pub(in crate::photos) fn photo() -> Cleaned {
    let mut png = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_pixel(8, 6, image::Rgb([10, 120, 200]));
    picture.write_to(&mut png, image::ImageFormat::Png).expect("a PNG");
    clean(png.get_ref()).expect("a photo")
}

/// Keys over an empty log in this folder.
pub(in crate::photos) async fn keyring(folder: &TempDir) -> Keyring {
    let location = Location::Folder(folder.path().to_owned());
    let log = Log::open(&location, "test", CancellationToken::new()).await.expect("a log");
    Keyring::new(log.schema().clone(), &MasterKey::generate(false), "test")
}

async fn list(store: &PhotoStore) -> Vec<PhotoId> {
    let mut ids: Vec<_> = store.list().try_collect().await.expect("the photos are listed");
    ids.sort();
    ids
}

#[tokio::test]
async fn a_photo_is_kept_until_it_is_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("photos/of/requests");
    let store = PhotoStore::open(place.to_str().expect("a path")).expect("a store");
    let keyring = keyring(&folder).await;
    let [first, second] = [PhotoId::generate(), PhotoId::generate()];
    let (key, _) = keyring.create("photo/one");

    assert_eq!(store.get(first, &key).await.expect("an answer"), None);
    store.put(first, &key, &photo()).await.expect("it is kept");
    store.put(second, &key, &photo()).await.expect("it is kept");
    store.put(second, &key, &photo()).await.expect("it is kept again");
    assert_eq!(list(&store).await, [first, second]);

    // Another process, or this one after a crash.
    let store = PhotoStore::folder(&place).expect("a store");
    assert_eq!(store.get(first, &key).await.expect("an answer"), Some(photo()));
    store.delete(first).await.expect("it is deleted");
    store.delete(first).await.expect("it is still deleted");
    assert_eq!(store.get(first, &key).await.expect("an answer"), None);
    assert_eq!(list(&store).await, [second]);
}

#[tokio::test]
async fn a_folder_shows_nothing_to_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("photos");
    let store = PhotoStore::folder(&place).expect("a store");
    let (id, keyring) = (PhotoId::generate(), keyring(&folder).await);
    let (key, _) = keyring.create("photo/one");
    store.put(id, &key, &photo()).await.expect("it is kept");

    let mode = std::fs::metadata(&place).expect("the folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let sealed = std::fs::read(place.join(id.to_string())).expect("the object");
    for part in photo().bytes().windows(8) {
        assert!(!sealed.windows(8).any(|window| window == part), "it is readable");
    }
}

#[tokio::test]
async fn what_was_altered_or_exchanged_is_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("photos");
    let store = PhotoStore::folder(&place).expect("a store");
    let (id, other) = (PhotoId::generate(), PhotoId::generate());
    let keyring = keyring(&folder).await;
    let [(key, _), (wrong, _)] = ["photo/one", "photo/two"].map(|id| keyring.create(id));
    store.put(id, &key, &photo()).await.expect("it is kept");

    let altered = async |id, key| match store.get(id, key).await {
        Err(StoreError::Altered(altered)) => altered == id,
        _ => false,
    };
    assert!(altered(id, &wrong).await);
    let object = place.join(id.to_string());
    std::fs::copy(&object, place.join(other.to_string())).expect("a copy");
    assert!(altered(other, &key).await);
    let mut sealed = std::fs::read(&object).expect("the object");
    sealed[40] ^= 1;
    std::fs::write(&object, &sealed).expect("altered");
    assert!(altered(id, &key).await);
    std::fs::write(&object, b"").expect("emptied");
    assert!(altered(id, &key).await);
    let huge = std::fs::File::create(&object).expect("the object");
    huge.set_len(1 << 40).expect("a large hole");
    assert!(altered(id, &key).await);
}

/// A crash while a photo is written leaves it under another name.
#[tokio::test]
async fn what_was_half_written_is_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = PhotoStore::folder(folder.path()).expect("a store");
    let (id, keyring) = (PhotoId::generate(), keyring(&folder).await);
    let (key, _) = keyring.create("photo/one");
    std::fs::write(folder.path().join(format!("{id}#1")), b"half").expect("a half photo");
    std::fs::write(folder.path().join("lost+found"), b"").expect("something else");

    assert_eq!(list(&store).await, []);
    assert_eq!(store.get(id, &key).await.expect("an answer"), None);
    store.put(id, &key, &photo()).await.expect("it is kept after all");
    assert_eq!(list(&store).await, [id]);
    assert_eq!(store.get(id, &key).await.expect("an answer"), Some(photo()));
}

#[test]
fn a_place_that_is_none_is_named() {
    for place in ["ftp://photos", "s3://", "s3:///prefix", "s3://bucket/a//b"] {
        let error = PhotoStore::open(place).expect_err("no place");
        assert!(error.to_string().contains(place), "{error}");
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error = PhotoStore::folder(file.path()).expect_err("no folder");
    assert!(error.to_string().contains(file.path().to_str().expect("a path")), "{error}");
}
