//! Who may report: clients by their API key, each as much as was agreed.
//!
//! Quotas are counted in memory, by each process for itself. They fill again
//! evenly, so that nobody waits for midnight.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use http::StatusCode;
use sha2::{Digest, Sha256};

use super::refused::Refused;
use super::settings::Key;

const DAY: Duration = Duration::from_secs(86_400);

/// Clients, by the SHA-256 of their key.
pub struct Keys(HashMap<[u8; 32], Client>);

struct Client {
    name: String,
    minute: DefaultDirectRateLimiter,
    day: DefaultDirectRateLimiter,
}

impl Keys {
    pub fn new(keys: &[Key]) -> Self {
        let client = |key: &Key| Client {
            name: key.name.clone(),
            minute: DefaultDirectRateLimiter::direct(Quota::per_minute(key.per_minute)),
            day: DefaultDirectRateLimiter::direct(per_day(key.per_day)),
        };
        Keys(keys.iter().map(|key| (key.sha256, client(key))).collect())
    }

    pub fn knows(&self, key: &str) -> bool {
        self.client(key).is_some()
    }

    /// The name of the client with this key, for one more report.
    pub fn admit(&self, key: Option<&str>) -> Result<&str, Refused> {
        let refused = |text| Refused::new(StatusCode::FORBIDDEN, text);
        let key = key.ok_or_else(|| refused("api_key: must be given to report something"))?;
        let client = self.client(key).ok_or_else(|| refused("api_key: is not known here"))?;
        for (quota, of) in [(&client.minute, "minute"), (&client.day, "day")] {
            if let Err(not_until) = quota.check() {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                let text = format!("api_key: its reports of this {of} are used up");
                let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, &text);
                return Err(refused.later(wait));
            }
        }
        Ok(&client.name)
    }

    /// Looked up by its hash: how long that takes tells nothing of the key.
    fn client(&self, key: &str) -> Option<&Client> {
        let hash: [u8; 32] = Sha256::digest(key).into();
        self.0.get(&hash)
    }
}

fn per_day(reports: NonZeroU32) -> Quota {
    let each = Quota::with_period(DAY / reports.get());
    each.map_or_else(|| Quota::per_minute(reports), |quota| quota.allow_burst(reports))
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::*;

    #[test]
    fn each_key_has_its_own_quota() {
        let key = |name: &str, of: &str, minute: u32, day: u32| {
            let hash: String =
                Sha256::digest(of).iter().map(|byte| format!("{byte:02x}")).collect();
            format!(
                "{{\"name\": \"{name}\", \"sha256\": \"{hash}\", \"per_minute\": {minute}, \
                 \"per_day\": {day}}}"
            )
        };
        let (one, other) = (key("one", "1", 2, 9), key("other", "2", 9, 3));
        let settings = Settings::parse(&format!("{{\"keys\": [{one}, {other}]}}"));
        let keys = Keys::new(&settings.expect("settings").keys);
        for (key, name, fits) in [("1", "one", 2), ("2", "other", 3)] {
            for _ in 0..fits {
                assert_eq!(keys.admit(Some(key)).expect("admitted"), name);
            }
            keys.admit(Some(key)).expect_err("used up");
        }
        keys.admit(None).expect_err("without a key");
        keys.admit(Some("3")).expect_err("another key");
    }
}
