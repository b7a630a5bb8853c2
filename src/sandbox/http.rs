//! Publishing over HTTPS with a client certificate: `POST /topics/TOPIC?qos=1` (developer guide,
//! "HTTPS").

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::broker::Broker;
use super::connection::{CONNECT_TIMEOUT, WRITE_TIMEOUT, stopped};
use super::logs::{Metric, Record, Stage, Why};
use super::mqtt::access::{Access, Peer};
use super::mqtt::hub::{
    AUTHORIZATION, CLIENT_ERROR, MAX_PAYLOAD, Publication, denied_record, why_limit,
};
use super::mqtt::packet::Properties;
use super::mqtt::topics;

/// A client, as its requests know it.
#[derive(Clone)]
struct Client {
    broker: Arc<Broker>,
    peer: Peer,
}

/// Serves one client's requests.
pub(super) async fn serve(
    broker: Arc<Broker>,
    stream: TlsStream<TcpStream>,
    peer: Peer,
    mut stop: watch::Receiver<bool>,
) {
    let client = Client { broker, peer };
    let router: Router = Router::new().fallback(handle).with_state(client);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECT_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::select! {
        _ = serving => {}
        () = stopped(&mut stop) => {}
    }
}

/// Answers a client that may not connect at all.
pub(super) async fn forbid(stream: &mut TlsStream<TcpStream>, trace: &str) {
    let body = body_of("Forbidden", trace);
    let head = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\nconnection: close";
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let said = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    let _ = timeout(WRITE_TIMEOUT, said).await;
}

/// The record of something asked over HTTPS.
pub(super) fn over_http(mut record: Record) -> Record {
    record.protocol = Some("HTTP".into());
    record
}

/// A request that is not done.
struct Refusal {
    status: StatusCode,
    message: String,
    /// Its record, where it says more than the message.
    record: Option<Box<Record>>,
}

fn refusal(status: StatusCode, message: impl Into<String>) -> Refusal {
    Refusal {
        status,
        message: message.into(),
        record: None,
    }
}

async fn handle(State(client): State<Client>, request: Request) -> Response {
    let (status, message) = match publish(&client, request).await {
        Ok(()) => (StatusCode::OK, "OK".to_owned()),
        Err(refusal) => {
            let otherwise = || {
                let why = why_limit(Stage::Publish).of(&client.peer.certificate);
                Record::failure("Publish-In", CLIENT_ERROR, refusal.message.clone()).why(why)
            };
            let record = refusal.record.map_or_else(otherwise, |record| *record);
            let principal = client.peer.certificate.id().as_str();
            let record = record.of(client.peer.address, Some(principal), None);
            client.broker.logs.write(over_http(record));
            (refusal.status, refusal.message)
        }
    };
    let body = body_of(&message, &client.broker.logs.uuid());
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn body_of(message: &str, trace: &str) -> String {
    json!({ "message": message, "traceId": trace }).to_string()
}

async fn publish(client: &Client, request: Request) -> Result<(), Refusal> {
    let mut publication = wanted(&request)?;
    let topic = publication.topic.to_string();
    if let Some(problem) = topics::topic_problem(&topic) {
        let record = Record::failure("Publish-In", CLIENT_ERROR, problem.clone())
            .why(why_limit(Stage::Publish).of(&client.peer.certificate))
            .topic(&topic);
        return Err(Refusal {
            record: Some(Box::new(record)),
            ..refusal(StatusCode::BAD_REQUEST, problem)
        });
    }
    let Ok(body) = to_bytes(request.into_body(), MAX_PAYLOAD).await else {
        let message = format!("the payload is over {MAX_PAYLOAD} bytes, or broke off");
        return Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, message));
    };
    publication.payload = body.to_vec().into();
    let mut access = Access::https(client.peer.clone(), &*client.broker);
    if !access.refresh(&*client.broker) {
        let reason = "the certificate is not ACTIVE any more";
        let why = Why::new(
            Stage::Certificate,
            "connect.status",
            "make the certificate ACTIVE again, unless it was revoked",
        );
        let record = Record::failure("Publish-In", AUTHORIZATION, reason)
            .why(why.of(&client.peer.certificate))
            .topic(&topic);
        return Err(Refusal {
            record: Some(Box::new(record)),
            ..refusal(StatusCode::FORBIDDEN, "Forbidden")
        });
    }
    if let Err(denied) = access.may_publish(&topic, publication.retain) {
        return Err(Refusal {
            record: Some(Box::new(denied_record("Publish-In", denied).topic(&topic))),
            ..refusal(StatusCode::FORBIDDEN, "Forbidden")
        });
    }
    client.broker.logs.count(Metric::PublishInSuccess);
    client.broker.publish(publication);
    Ok(())
}

/// What the request's first line and headers ask for.
fn wanted(request: &Request) -> Result<Publication, Refusal> {
    let path = request.uri().path();
    let topic = path.strip_prefix("/topics/");
    let Some(topic) = topic.filter(|_| request.method() == Method::POST) else {
        let message = format!(
            "`{} {path}` is not spoken here: POST /topics/TOPIC is",
            request.method()
        );
        return Err(refusal(StatusCode::NOT_FOUND, message));
    };
    let Some(topic) = decoded(topic) else {
        return Err(refusal(StatusCode::BAD_REQUEST, "the topic is not UTF-8"));
    };
    let mut publication = Publication {
        topic: topic.into(),
        ..Publication::default()
    };
    let query = request.uri().query().unwrap_or_default();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = decoded(&value.replace('+', " ")).unwrap_or_default();
        let wrong = || {
            refusal(
                StatusCode::BAD_REQUEST,
                format!("{name}=`{value}` is not valid"),
            )
        };
        let properties: &mut Properties = &mut publication.properties;
        match name {
            "qos" => publication.qos = value.parse().ok().filter(|n| *n < 2).ok_or_else(wrong)?,
            "retain" => publication.retain = value.parse().map_err(|_| wrong())?,
            "contentType" => properties.content_type = Some(value),
            "responseTopic" => properties.response_topic = Some(value),
            "messageExpiry" => publication.expiry = Some(value.parse().map_err(|_| wrong())?),
            _ => {}
        }
    }
    Ok(publication)
}

/// Percent-decoded text (RFC 3986 §2.1).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, more)) = rest.split_first() {
        let pair = more.get(..2).filter(|_| *byte == b'%');
        let pair = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.map(crate::core::ids::unhex) {
            Some(Some(decoded)) => {
                bytes.extend(decoded);
                rest = &more[2..];
            }
            _ if *byte == b'%' => return None,
            _ => {
                bytes.push(*byte);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, uri: &str) -> Result<Publication, StatusCode> {
        let request = Request::builder().method(method).uri(uri);
        wanted(&request.body(Body::empty()).unwrap()).map_err(|refusal| refusal.status)
    }

    #[test]
    fn the_first_line_says_what_is_published() {
        let one = of(
            "POST",
            "/topics/a%2Fb/%C3%BC?qos=1&retain=true&messageExpiry=9",
        )
        .unwrap();
        assert_eq!(&*one.topic, "a/b/ü");
        assert_eq!((one.qos, one.retain, one.expiry), (1, true, Some(9)));
        let plain = of("POST", "/topics/a?contentType=text%2Fplain").unwrap();
        assert_eq!((plain.qos, plain.retain), (0, false));
        assert_eq!(plain.properties.content_type.as_deref(), Some("text/plain"));
        for (method, uri, status) in [
            ("GET", "/topics/a", 404),
            ("POST", "/things/a", 404),
            ("POST", "/topics/a?qos=2", 400),
            ("POST", "/topics/%F", 400),
            ("POST", "/topics/%ff", 400),
        ] {
            assert_eq!(of(method, uri).unwrap_err().as_u16(), status, "{uri}");
        }
    }
}
