//! Words for how a request arrived.

use samen_proto::requests::Channel;

/// What systems call the channels, in Dutch and English, without anything but
/// letters and digits. Not `mail`, which is a letter to some and an e-mail to
/// others.
const WORDS: &[(&str, Channel)] = &[
    ("web", Channel::Web),
    ("website", Channel::Web),
    ("webformulier", Channel::Web),
    ("webform", Channel::Web),
    ("internet", Channel::Web),
    ("online", Channel::Web),
    ("app", Channel::App),
    ("mobileapp", Channel::App),
    ("mobile", Channel::App),
    ("mobiel", Channel::App),
    ("phone", Channel::Phone),
    ("telephone", Channel::Phone),
    ("telefoon", Channel::Phone),
    ("telefonisch", Channel::Phone),
    ("call", Channel::Phone),
    ("desk", Channel::Desk),
    ("counter", Channel::Desk),
    ("walkin", Channel::Desk),
    ("balie", Channel::Desk),
    ("letter", Channel::Letter),
    ("brief", Channel::Letter),
    ("post", Channel::Letter),
    ("email", Channel::Email),
    ("socialmedia", Channel::SocialMedia),
    ("social", Channel::SocialMedia),
    ("twitter", Channel::SocialMedia),
    ("facebook", Channel::SocialMedia),
    ("instagram", Channel::SocialMedia),
    ("whatsapp", Channel::SocialMedia),
    ("open311", Channel::Open311),
    ("mobileopen311", Channel::Open311),
    ("partner", Channel::Partner),
    ("participation", Channel::Participation),
    ("participatie", Channel::Participation),
];

/// The channel that a cell means, where it is one of the usual words.
pub fn recognise(text: &str) -> Option<Channel> {
    let word: String =
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    WORDS.iter().find(|(known, _)| *known == word).map(|(_, channel)| *channel)
}

/// The same, for a flag.
pub fn parse(text: &str) -> Result<Channel, String> {
    recognise(text).ok_or_else(|| {
        "must be one of web, app, phone, desk, letter, email, social-media, open311, partner, \
         participation"
            .to_owned()
    })
}

/// A channel's name, as [`parse`] takes it.
pub fn name(channel: Channel) -> String {
    channel.as_str_name().trim_start_matches("CHANNEL_").to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_recognised_however_they_are_written() {
        assert_eq!(recognise("Phone"), Some(Channel::Phone));
        assert_eq!(recognise("mobile/open311"), Some(Channel::Open311));
        assert_eq!(recognise(" Social media "), Some(Channel::SocialMedia));
        assert_eq!(recognise("E-mail"), Some(Channel::Email));
        assert_eq!(recognise("integrated agency"), None);
        assert_eq!(recognise(""), None);
    }

    #[test]
    fn every_channel_has_a_name_that_is_recognised() {
        for number in 1..=10 {
            let channel = Channel::try_from(number).unwrap();
            assert_eq!(parse(&name(channel)), Ok(channel));
        }
    }
}
