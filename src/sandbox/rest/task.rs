//! Thing registration tasks.

use std::sync::{Arc, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, missing, put, put_dates};
use super::page::{Listing, TOKEN, page};
use super::{Front, Operation, operation, slow_operation};
use crate::sandbox::registry::{ApiError, NewTask, Registry, Task};
use crate::sandbox::{Shared, bulk};

pub(super) const OPERATIONS: &[Operation] = &[
    slow_operation(
        "StartThingRegistrationTask",
        MethodFilter::POST,
        "/thing-registration-tasks",
        start,
    ),
    operation(
        "ListThingRegistrationTasks",
        MethodFilter::GET,
        "/thing-registration-tasks",
        list,
    ),
    operation(
        "DescribeThingRegistrationTask",
        MethodFilter::GET,
        "/thing-registration-tasks/{id}",
        describe,
    ),
    operation(
        "StopThingRegistrationTask",
        MethodFilter::PUT,
        "/thing-registration-tasks/{id}/cancel",
        stop,
    ),
    operation(
        "ListThingRegistrationTaskReports",
        MethodFilter::GET,
        "/thing-registration-tasks/{id}/reports",
        reports,
    ),
];

fn start(shared: &Shared, call: &Call) -> Result<Value, ApiError> {
    let request = NewTask {
        template: call.need("templateBody")?.to_owned(),
        bucket: call.need("inputFileBucket")?.to_owned(),
        key: call.need("inputFileKey")?.to_owned(),
        role: call.need("roleArn")?.to_owned(),
    };
    let id = {
        let registry = &shared.registry;
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.start_task(request, call.now)?
    };
    bulk::run_beside(shared.clone(), id.clone());
    Ok(json!({ "taskId": id }))
}

fn find<'a>(registry: &'a Registry, id: &str) -> Result<&'a Task, ApiError> {
    let shown: String = id.chars().take(80).collect();
    let found = registry.task(id);
    found.ok_or_else(|| ApiError::not_found("registration task", shown))
}

fn describe(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let task = find(registry, call.raw_label("id"))?;
    let done = task.successes + task.failures;
    let mut answer = json!({
        "taskId": task.id,
        "templateBody": task.template,
        "inputFileBucket": task.bucket,
        "inputFileKey": task.key,
        "roleArn": task.role,
        "status": task.status.as_str(),
        "successCount": task.successes,
        "failureCount": task.failures,
        "percentageProgress": (done * 100).checked_div(task.lines).unwrap_or(0),
    });
    put_dates(&mut answer, task.dates);
    put(&mut answer, "message", task.message.clone());
    Ok(answer)
}

fn list(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let wanted = call.query("status");
    let tasks = registry.tasks();
    let tasks = tasks.filter(|task| wanted.is_none_or(|word| task.status.as_str() == word));
    let show = |task: &&Task| Value::from(task.id.clone());
    let list = Listing::by_name(tasks, |task| task.id.clone(), show);
    page(call, &TOKEN, "taskIds", list)
}

fn stop(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.stop_task(call.raw_label("id"), call.now)?;
    Ok(json!({}))
}

/// Links to the report, which this server answers itself where AWS has pre-signed ones to S3.
fn reports(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let id = call.raw_label("id");
    find(registry, id)?;
    let kind = call
        .query("reportType")
        .ok_or_else(|| missing("reportType"))?;
    let report = registry.task_report(id);
    let (name, text) = match kind {
        "RESULTS" => ("results", report.map(|report| &report.results)),
        "ERRORS" => ("errors", report.map(|report| &report.errors)),
        _ => {
            return Err(ApiError::invalid(
                "reportType is neither ERRORS nor RESULTS",
            ));
        }
    };
    let host = call.header("host")?;
    let link = format!("http://{host}/registration-reports/{id}/{name}.json");
    let links: Vec<String> = text
        .filter(|text| !text.is_empty())
        .map(|_| link)
        .into_iter()
        .collect();
    Ok(json!({ "resourceLinks": links, "reportType": kind }))
}

/// One report, as a file. Its id is the secret, as with a pre-signed URL.
pub(super) async fn report(
    State(front): State<Arc<Front>>,
    Path((id, file)): Path<(String, String)>,
) -> Response {
    let shown = |registry: &Registry| {
        let report = registry.task_report(&id)?;
        match &file[..] {
            "results.json" => Some(report.results.clone()),
            "errors.json" => Some(report.errors.clone()),
            _ => None,
        }
    };
    match front.worlds.find(shown) {
        Some(text) => super::respond(StatusCode::OK, text),
        None => super::failure(&ApiError::not_found("the report", &file)),
    }
}
