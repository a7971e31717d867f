//! What the API server's answers say about the time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::Response;
use controller::election::{self, Ahead};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::util::MapFutureLayer;

use crate::clock::{date_of, since_boot};

/// The dates of the API server's last answers, of all clients together. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Dates(Arc<Mutex<election::Dates>>);

impl Dates {
    /// A client whose answers are heard.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn client(&self, config: Config) -> kube::Result<Client> {
        let dates = self.clone();
        let layer = MapFutureLayer::new(move |answer| dates.clone().hear(answer));
        Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
    }

    /// How far the API server's clock is ahead of [`since_boot`].
    #[must_use]
    pub fn ahead(&self) -> Option<Ahead> {
        self.lock().ahead()
    }

    async fn hear<B, E>(
        self,
        answer: impl Future<Output = Result<Response<B>, E>>,
    ) -> Result<Response<B>, E> {
        let sent = since_boot();
        let answer = answer.await?;
        if let Some(date) = date_of(answer.headers()) {
            self.lock().hear(date, sent, since_boot());
        }
        Ok(answer)
    }

    fn lock(&self) -> MutexGuard<'_, election::Dates> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
