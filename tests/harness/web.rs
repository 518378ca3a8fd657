//! Calls as a browser makes them: gRPC-Web over HTTP/1.1.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The whole answer, as text where it is text.
    pub text: String,
    /// From the headers, or from the trailers in the body.
    pub grpc_status: Option<i32>,
}

/// Sends one message to a method's URL.
pub async fn grpc_web(url: &str, token: Option<&str>, message: &[u8]) -> Answer {
    let rest = url.strip_prefix("http://").expect("a plain URL");
    let (address, path) = rest.split_once('/').expect("a method's URL");
    let authorization =
        token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = message.len() + 5;
    let head = format!(
        "POST /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n\
         content-length: {length}\r\n{authorization}\r\n"
    );
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&frame).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split("grpc-status:").nth(1).map(|rest| {
        let digits = rest.trim_start().chars().take_while(char::is_ascii_digit);
        digits.collect::<String>()
    });
    Answer { grpc_status: status.and_then(|status| status.parse().ok()), text }
}

/// What a form sends, as a browser does; gives status line, headers and page.
/// The fields are written as they are but for what a form has to escape.
pub async fn post(address: &str, path: &str, fields: &[(&str, &str)]) -> std::io::Result<String> {
    post_with(address, path, "", fields).await
}

/// The same with more headers, each with its end of line.
pub async fn post_with(
    address: &str,
    path: &str,
    headers: &str,
    fields: &[(&str, &str)],
) -> std::io::Result<String> {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    let fields = fields.iter().map(|(name, value)| format!("{name}={}", escape(value)));
    let body = fields.collect::<Vec<_>>().join("&");
    let kind = "application/x-www-form-urlencoded";
    send(address, path, kind, headers, body.as_bytes()).await
}

/// What a form with files sends: each file with its field, name and content.
pub async fn multipart(
    address: &str,
    path: &str,
    fields: &[(&str, &str)],
    files: &[(&str, &str, Vec<u8>)],
) -> std::io::Result<String> {
    let boundary = "between-one-part-and-the-next";
    let disposition = "Content-Disposition: form-data";
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--{boundary}\r\n{disposition}; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend(part.as_bytes());
    }
    for (name, file, content) in files {
        let head = format!(
            "--{boundary}\r\n{disposition}; name=\"{name}\"; filename=\"{file}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend([head.as_bytes(), content, b"\r\n"].concat());
    }
    body.extend(format!("--{boundary}--\r\n").as_bytes());
    send(address, path, &format!("multipart/form-data; boundary={boundary}"), "", &body).await
}

/// Sends a body of this kind.
pub async fn send(
    address: &str,
    path: &str,
    kind: &str,
    headers: &str,
    body: &[u8],
) -> std::io::Result<String> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: {kind}\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    let stream = TcpStream::connect(address).await?;
    let (mut from, mut to) = stream.into_split();
    // A server may answer before it has read all of it, and then read no more.
    let sending = async {
        let _: std::io::Result<()> = to.write_all(head.as_bytes()).await;
        let _: std::io::Result<()> = to.write_all(body).await;
    };
    let mut answer = Vec::new();
    let reading = async {
        let mut piece = [0; 8192];
        // What came before the connection was reset is the answer.
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            answer.extend(&piece[..count]);
        }
    };
    tokio::join!(sending, reading);
    String::from_utf8(answer).map_err(std::io::Error::other)
}

/// A page, with its status line and headers.
pub async fn get(address: &str, path: &str) -> std::io::Result<String> {
    String::from_utf8(get_bytes(address, path).await?).map_err(std::io::Error::other)
}

/// What is no text, likewise.
pub async fn get_bytes(address: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
