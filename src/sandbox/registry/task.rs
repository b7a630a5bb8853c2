//! Thing registration tasks: what is known of them. Who runs them is not the registry's matter.

use super::entities::{Dates, Task, TaskReport, TaskStatus};
use super::{ApiError, Registry, template, uuid};
use crate::core::template::Template;
use crate::core::time::UtcTime;

/// `StartThingRegistrationTask`.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// `templateBody`.
    pub template: String,
    /// `inputFileBucket`.
    pub bucket: String,
    /// `inputFileKey`.
    pub key: String,
    /// `roleArn`.
    pub role: String,
}

impl Registry {
    /// Notes a task that is about to run. Answers its id.
    ///
    /// # Errors
    /// `InvalidRequestException` for the template or the role, and while another task runs.
    pub fn start_task(&mut self, request: NewTask, now: UtcTime) -> Result<String, ApiError> {
        self.mutate(|state, _| {
            Template::parse(&request.template).map_err(|e| ApiError::invalid(e.to_string()))?;
            template::check_role(&request.role)?;
            if let Some(other) = state.tasks.all().find(|task| !task.status.is_over()) {
                let message = format!("registration task {} is in progress", other.id);
                return Err(ApiError::invalid(message));
            }
            let id = uuid()?;
            let task = Task {
                id: id.clone(),
                template: request.template,
                bucket: request.bucket,
                key: request.key,
                role: request.role,
                status: TaskStatus::InProgress,
                message: None,
                lines: 0,
                successes: 0,
                failures: 0,
                dates: Dates::new(now),
            };
            state.tasks.put(&id, task);
            Ok(id)
        })
    }

    /// A task.
    pub fn task(&self, id: &str) -> Option<&Task> {
        self.state.tasks.get(id)
    }

    /// Every task, by id.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.state.tasks.all()
    }

    /// What a task says of its lines; `None` before it is over.
    pub fn task_report(&self, id: &str) -> Option<&TaskReport> {
        self.state.reports.get(id)
    }

    /// Notes how far a task is. One that was stopped stays so.
    ///
    /// # Errors
    /// `ResourceNotFoundException`.
    pub fn advance_task(
        &mut self,
        id: &str,
        now: UtcTime,
        change: impl FnOnce(&mut Task),
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            let task = state.tasks.change(id).ok_or_else(|| no_task(id))?;
            change(task);
            task.dates.modified = now;
            Ok(())
        })
    }

    /// Keeps what a task says of its lines.
    ///
    /// # Errors
    /// `InternalFailureException` only.
    pub fn keep_report(&mut self, id: &str, report: TaskReport) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            state.reports.put(id, report);
            Ok(())
        })
    }

    /// `StopThingRegistrationTask`.
    ///
    /// # Errors
    /// `ResourceNotFoundException`; `InvalidRequestException` for one that is over.
    pub fn stop_task(&mut self, id: &str, now: UtcTime) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            let task = state.tasks.change(id).ok_or_else(|| no_task(id))?;
            if task.status.is_over() {
                let message = format!("registration task {id} is {}", task.status.as_str());
                return Err(ApiError::invalid(message));
            }
            task.status = TaskStatus::Cancelling;
            task.dates.modified = now;
            Ok(())
        })
    }

    /// Says of tasks whose process has ended that they have failed.
    ///
    /// # Errors
    /// `InternalFailureException` only.
    pub fn end_orphaned_tasks(&mut self, now: UtcTime) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            let orphans = state.tasks.all().filter(|task| !task.status.is_over());
            let orphans: Vec<String> = orphans.map(|task| task.id.clone()).collect();
            for id in orphans {
                if let Some(task) = state.tasks.change(&id) {
                    task.status = TaskStatus::Failed;
                    task.message = Some("the sandbox ended while the task ran".into());
                    task.dates.modified = now;
                }
            }
            Ok(())
        })
    }
}

fn no_task(id: &str) -> ApiError {
    let shown: String = id.chars().take(80).collect();
    ApiError::not_found("registration task", shown)
}
