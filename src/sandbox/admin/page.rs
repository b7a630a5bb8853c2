//! The page to look at: things, certificates and their windows, connections, and decisions with
//! their reasons. Plain HTML made here; no script, nothing from elsewhere.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::sync::PoisonError;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Desk;
use crate::core::time::{Span, UtcTime, Validity};
use crate::ports::Clock;
use crate::sandbox::logs::Record;
use crate::sandbox::registry::Registry;

/// The most rows of one table.
const ROWS: usize = 200;
/// How many records are shown.
const RECORDS: usize = 100;
/// How often the page loads itself anew, in seconds.
const REFRESH: u32 = 5;
/// How far to both sides of now the windows are drawn.
const SIDE: Span = Span::days(400);

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:75rem;padding:0 1rem;\
color:#1c2733;background:#fff}\
h1{font-size:1.35rem}h2{font-size:1.05rem;margin:1.8rem 0 .4rem}\
table{border-collapse:collapse;width:100%}\
th,td{overflow-wrap:anywhere;text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-bottom:1px solid #dde3ea}\
th{font-weight:600;color:#51606f}code,td.id{font:13px/1.5 ui-monospace,monospace;word-break:break-all}\
.bad{color:#a8201a}.good{color:#1d6b3a}.dim{color:#66737f}svg{display:block}\
@media(prefers-color-scheme:dark){body{color:#dbe3ea;background:#14191f}\
th,td{border-color:#2b3540}th,.dim{color:#93a1af}.bad{color:#ff8a80}.good{color:#7bd69a}}";

/// What is asked of the page.
#[derive(Debug, serde::Deserialize)]
#[serde(default)]
struct Wanted {
    /// Only this client.
    client: String,
    /// Only refusals.
    why: bool,
    /// Load anew by itself.
    refresh: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            client: String::new(),
            why: false,
            refresh: true,
        }
    }
}

pub(super) fn router(desk: Desk, address: SocketAddr) -> Router {
    Router::new()
        .route("/", get(show))
        .route("/style.css", get(style))
        .layer(middleware::from_fn_with_state(address, guarded))
        .with_state(desk)
}

/// Answers only who names this machine: another site's name that leads here (DNS rebinding) gets
/// nothing. Nothing may be loaded but the style sheet, and nobody may put the page into a frame.
async fn guarded(State(address): State<SocketAddr>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = address.port();
    let own = [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        address.to_string(),
    ];
    let mut response = if own.iter().any(|name| name == host) {
        next.run(request).await
    } else {
        let message = "this page is for this machine only: open it by its own address\n";
        (StatusCode::MISDIRECTED_REQUEST, message).into_response()
    };
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        let (name, value) = (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        response.headers_mut().insert(name, value);
    }
    response
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

async fn show(State(desk): State<Desk>, Query(wanted): Query<Wanted>) -> Response {
    let mut html = String::new();
    match draw(&mut html, &desk, &wanted) {
        Ok(()) => {
            let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
            (kind, html).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Text as HTML text or attribute value.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

fn draw(out: &mut String, desk: &Desk, wanted: &Wanted) -> fmt::Result {
    let now = desk.clock.now();
    let place = desk.shared.logs.place();
    out.write_str("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">")?;
    out.write_str("<meta name=\"viewport\" content=\"width=device-width\">")?;
    if wanted.refresh {
        write!(out, "<meta http-equiv=\"refresh\" content=\"{REFRESH}\">")?;
    }
    out.write_str("<title>nameplate sandbox</title>")?;
    out.write_str("<link rel=\"stylesheet\" href=\"/style.css\"></head><body>")?;
    write!(
        out,
        "<h1>Sandbox: account {} in {}</h1><p class=\"dim\">Its clock shows {now}.",
        place.account, place.region
    )?;
    for fault in desk.faults.all() {
        write!(
            out,
            " <span class=\"bad\">Fault: {}.</span>",
            Text(&fault.to_string())
        )?;
    }
    let (turn, label) = if wanted.refresh {
        ("false", "hold the page still")
    } else {
        ("true", "follow again")
    };
    write!(out, " <a href=\"/?refresh={turn}\">{label}</a></p>")?;
    draw_decisions(out, desk, wanted)?;
    draw_connections(out, desk)?;
    {
        let registry = &desk.shared.registry;
        let registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        draw_certificates(out, &registry, now)?;
        draw_things(out, &registry)?;
    }
    out.write_str("</body></html>\n")
}

fn draw_decisions(out: &mut String, desk: &Desk, wanted: &Wanted) -> fmt::Result {
    let keep = |record: &Record| {
        (wanted.client.is_empty() || record.client_id.as_deref() == Some(&wanted.client))
            && (!wanted.why || record.failed())
    };
    write!(
        out,
        "<h2 id=\"decisions\">Decisions</h2><form action=\"/\"><label>Client id \
         <input name=\"client\" value=\"{}\"></label> <label><input type=\"checkbox\" name=\"why\" \
         value=\"true\"{}> refusals only</label> <button>Show</button></form>",
        Text(&wanted.client),
        if wanted.why { " checked" } else { "" },
    )?;
    out.write_str("<table><tr><th>When</th><th>What</th><th>Who</th><th>Why</th></tr>")?;
    let records = desk.shared.logs.recent();
    for record in records.iter().rev().filter(|one| keep(one)).take(RECORDS) {
        draw_record(out, record)?;
    }
    out.write_str("</table>")
}

fn draw_record(out: &mut String, record: &Record) -> fmt::Result {
    let (class, word) = if record.failed() {
        ("bad", record.reason.as_deref().unwrap_or("refused"))
    } else {
        ("good", "done")
    };
    let who = record.client_id.as_deref();
    let who = who.or(record.source_ip.as_deref()).unwrap_or_default();
    let why = record.why.as_deref();
    write!(
        out,
        "<tr><td>{}</td><td>{} <span class=\"{class}\">{}</span></td><td>{}",
        Text(&record.timestamp),
        Text(&record.event_type),
        Text(word),
        Text(who),
    )?;
    if let Some(subject) = why.and_then(|why| why.subject.as_deref()) {
        write!(out, "<br><span class=\"dim\">{}</span>", Text(subject))?;
    }
    let details = record.details.as_deref().or(record.topic_name.as_deref());
    write!(out, "</td><td>{}", Text(details.unwrap_or_default()))?;
    if let Some(why) = why {
        let (stage, rule) = (why.stage.as_str(), Text(&why.rule));
        write!(out, "<br><span class=\"dim\">{stage}: {rule}</span>")?;
        if !why.remedy.is_empty() {
            write!(out, "<br>To mend it: {}", Text(&why.remedy))?;
        }
    }
    out.write_str("</td></tr>")
}

fn draw_connections(out: &mut String, desk: &Desk) -> fmt::Result {
    let live = desk.shared.logs.live();
    write!(
        out,
        "<h2 id=\"connections\">Connected now: {}</h2>",
        live.len()
    )?;
    out.write_str(
        "<table><tr><th>Client id</th><th>From</th><th>Since</th><th>Certificate</th></tr>",
    )?;
    for one in live.iter().take(ROWS) {
        write!(
            out,
            "<tr><td>{}</td><td>{}:{}</td><td>{}</td><td class=\"id\">{}</td></tr>",
            Text(&one.client_id),
            Text(&one.source_ip),
            one.source_port,
            Text(&one.since),
            Text(one.principal_id.as_deref().unwrap_or_default()),
        )?;
    }
    more(out, live.len())
}

fn draw_certificates(out: &mut String, registry: &Registry, now: UtcTime) -> fmt::Result {
    let count = registry.certificates().count();
    write!(out, "<h2 id=\"certificates\">Certificates: {count}</h2>")?;
    out.write_str(
        "<table><tr><th>Certificate</th><th>Status</th><th>Things</th><th>Window</th></tr>",
    )?;
    for entry in registry.certificates().take(ROWS) {
        let things: Vec<&str> = entry.things.keys().map(AsRef::as_ref).collect();
        let class = match entry.status.as_str() {
            "ACTIVE" => "good",
            _ => "bad",
        };
        write!(
            out,
            "<tr><td class=\"id\">{}</td><td class=\"{class}\">{}</td><td>{}</td><td>{}",
            entry.id,
            entry.status,
            Text(&things.join(", ")),
            Text(&entry.validity.describe(now)),
        )?;
        draw_window(out, &entry.validity, now)?;
        out.write_str("</td></tr>")?;
    }
    more(out, count)
}

/// The certificate's window as a bar; now is the line in its middle.
fn draw_window(out: &mut String, window: &Validity, now: UtcTime) -> fmt::Result {
    let side = SIDE.as_seconds();
    let place = |at: UtcTime| {
        let offset = at.unix().saturating_sub(now.unix()).clamp(-side, side);
        (offset + side) * 200 / (2 * side)
    };
    let (from, to) = (place(window.not_before), place(window.not_after));
    let colour = if window.contains(now) {
        "#2f8f57"
    } else {
        "#c0392b"
    };
    write!(
        out,
        "<svg width=\"200\" height=\"8\" role=\"img\" aria-label=\"window\"><rect width=\"200\" \
         height=\"8\" fill=\"#8892\"/><rect x=\"{from}\" width=\"{}\" height=\"8\" \
         fill=\"{colour}\"/><rect x=\"100\" width=\"1\" height=\"8\" fill=\"#000\"/></svg>",
        (to - from).max(1),
    )
}

fn draw_things(out: &mut String, registry: &Registry) -> fmt::Result {
    let count = registry.things().count();
    write!(out, "<h2 id=\"things\">Things: {count}</h2>")?;
    out.write_str("<table><tr><th>Thing</th><th>Type</th><th>Attributes</th></tr>")?;
    for thing in registry.things().take(ROWS) {
        let kind = thing.type_name.as_ref().map_or("", |name| name.as_ref());
        let attributes = thing.attributes.iter().map(|(k, v)| format!("{k}={v}"));
        let attributes = attributes.collect::<Vec<_>>().join(", ");
        let name = Text(thing.name.as_str());
        let (kind, attributes) = (Text(kind), Text(&attributes));
        write!(
            out,
            "<tr><td>{name}</td><td>{kind}</td><td>{attributes}</td></tr>"
        )?;
    }
    more(out, count)
}

/// Ends a table, and says what it leaves out.
fn more(out: &mut String, count: usize) -> fmt::Result {
    out.write_str("</table>")?;
    match count.saturating_sub(ROWS) {
        0 => Ok(()),
        more => write!(out, "<p class=\"dim\">and {more} more</p>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_came_from_outside_is_markup() {
        let record = Record {
            client_id: Some("<script>alert('1')</script>".into()),
            ..Record::failure("Connect", "X", "\"&\"")
        };
        let mut out = String::new();
        draw_record(&mut out, &record).unwrap();
        assert!(!out.contains("<script"), "{out}");
        assert!(out.contains("&lt;script&gt;alert(&#39;1&#39;)"), "{out}");
        assert!(out.contains("&quot;&amp;&quot;"), "{out}");
    }

    #[test]
    fn a_window_is_drawn_around_now() {
        let now = UtcTime::from_unix(1_800_000_000);
        let draw = |from: i64, to: i64| {
            let window = Validity {
                not_before: now.plus(Span::days(from)),
                not_after: now.plus(Span::days(to)),
            };
            let mut out = String::new();
            draw_window(&mut out, &window, now).unwrap();
            out
        };
        assert!(draw(-200, 200).contains(r#"x="50" width="100""#));
        assert!(draw(-9000, 9000).contains(r#"x="0" width="200""#));
        assert!(draw(-2, -1).contains("#c0392b"));
    }
}
