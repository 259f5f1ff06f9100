//! A connection to the instance's API as its administrator.

use anyhow::{Context, Result, bail};
use http::{Method, Request};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

use crate::instance::Instance;

/// The client of one command.
pub struct Session {
    /// For what needs more than one request and answer.
    pub client: Client,
}

impl Session {
    /// Connects with the kubeconfig that `up` wrote.
    pub async fn open(instance: &Instance) -> Result<Self> {
        let path = instance.kubeconfig();
        if !path.exists() {
            bail!("no hythe was started on {}: run `hythe up` first", instance.data_dir.display());
        }
        let kubeconfig = Kubeconfig::read_from(&path).with_context(|| format!("can't read {}", path.display()))?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        // The instance is on this machine, whatever proxy the environment names for others.
        config.proxy_url = None;
        Ok(Self { client: Client::try_from(config)? })
    }

    /// One request; a `Status` of failure becomes an error worded as kubectl words it.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Accept", accept)
            .header("Content-Type", content_type)
            .body(body)?;
        match self.client.request::<Value>(request).await {
            Ok(value) => Ok(value),
            Err(kube::Error::Api(status)) => match status.reason.as_str() {
                "" => bail!("{}", status.message),
                reason => bail!("Error from server ({reason}): {}", status.message),
            },
            Err(kube::Error::Service(error)) => {
                Err(anyhow::Error::from_boxed(error)).context("hythe does not answer: is it up?")
            }
            Err(error) => Err(error.into()),
        }
    }

    /// GET of JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, "application/json", "application/json", Vec::new()).await
    }
}

/// Runs a command's future to its end.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
