//! Where the sandbox's own interface and its page listen.

use std::future::IntoFuture;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use tokio::sync::watch;

use super::{Desk, TOKEN};
use crate::core::ids::hex;
use crate::ports::Entropy;
use crate::sandbox::Shared;
use crate::sandbox::clock::{ClockChange, SandboxClock};
use crate::sandbox::connection::stopped;
use crate::sandbox::faults::{Fault, Faults};
use crate::sandbox::folder::Folder;
use crate::sandbox::server::{ServerError, bind};

/// Faults and time as they are at the start, and whether there is a page.
#[derive(Clone, Debug, Default)]
pub struct Controls {
    /// What goes wrong from the start.
    pub faults: Vec<Fault>,
    /// What is done to the clock at the start, in order.
    pub clock: Vec<ClockChange>,
    /// Where the page listens; loopback only.
    pub ui: Option<SocketAddr>,
}

/// The listeners, before anything is served.
pub(in crate::sandbox) struct AdminParts {
    pub(in crate::sandbox) desk: Desk,
    /// `None` without a state folder, where nobody could find the token.
    interface: Option<TcpListener>,
    page: Option<TcpListener>,
}

impl AdminParts {
    /// Binds, and puts a new token into the folder.
    pub(in crate::sandbox) fn new(
        ui: Option<SocketAddr>,
        (shared, clock, faults): (&Shared, Arc<SandboxClock>, Arc<Faults>),
        entropy: &dyn Entropy,
        folder: Option<&Folder>,
    ) -> Result<Self, ServerError> {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        let token = hex(&bytes);
        let interface = match folder {
            None => None,
            Some(folder) => {
                folder.write(TOKEN, &format!("{token}\n"), 0o600)?;
                let any = SocketAddr::from(([127, 0, 0, 1], 0));
                Some(bind(any, "admin interface")?)
            }
        };
        let page = match ui {
            Some(address) if !address.ip().is_loopback() => {
                return Err(ServerError::PageOpen(address));
            }
            other => other.map(|address| bind(address, "page")).transpose()?,
        };
        let desk = Desk {
            shared: shared.clone(),
            clock,
            faults,
            token: token.into(),
        };
        Ok(Self {
            desk,
            interface,
            page,
        })
    }

    /// The URLs of the interface and of the page.
    pub(in crate::sandbox) fn urls(&self) -> (Option<String>, Option<String>) {
        let url = |listener: &Option<TcpListener>| {
            let address = listener.as_ref()?.local_addr().ok()?;
            Some(format!("http://{address}"))
        };
        (url(&self.interface), url(&self.page))
    }

    /// Serves both in the background, until told to stop.
    pub(in crate::sandbox) fn serve(self, stop: &watch::Receiver<bool>) -> io::Result<()> {
        if let Some(listener) = self.interface {
            spawn(listener, super::router(self.desk.clone()), stop)?;
        }
        if let Some(listener) = self.page {
            let address = listener.local_addr()?;
            spawn(listener, super::page(self.desk, address), stop)?;
        }
        Ok(())
    }
}

fn spawn(listener: TcpListener, router: Router, stop: &watch::Receiver<bool>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = axum::serve(listener, router).into_future() => {}
            () = stopped(&mut stop) => {}
        }
    });
    Ok(())
}
