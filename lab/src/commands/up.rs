//! `lab up`

use lab::postgres::SUPERUSER;
use lab::{
    Caddy, CaddyOptions, ControlPlane, ControlPlaneOptions, Postgres, PostgresOptions, Prometheus,
    PrometheusOptions, Redis, RedisOptions, Result, Session,
};

use super::end::End;

/// What `lab up` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave the folder with all logs when it ends.
    #[arg(long)]
    keep: bool,
}

struct Everything {
    plane: ControlPlane,
    postgres: Postgres,
    prometheus: Prometheus,
    caddy: Caddy,
    redis: Redis,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let mut end = End::listen()?;
    let session = Session::start().await?;
    if arguments.keep {
        session.keep()?;
    }
    // Starting may take minutes: Ctrl-C ends it too.
    let everything = tokio::select! {
        started = start(&session) => started?,
        () = end.asked() => return Ok(()),
    };
    super::print(&describe(&session, &everything));
    end.asked().await;
    session.say("stopping");
    Ok(())
}

async fn start(session: &Session) -> Result<Everything> {
    session.say("starting a control plane, PostgreSQL, Prometheus, Caddy and Redis");
    let (plane, postgres, prometheus, caddy, redis) = tokio::try_join!(
        ControlPlane::start(session, ControlPlaneOptions::default()),
        Postgres::start(session, PostgresOptions::default()),
        Prometheus::start(session, PrometheusOptions::default()),
        Caddy::start(session, CaddyOptions::default()),
        Redis::start(session, RedisOptions::default()),
    )?;
    prometheus.add_target("edge", caddy.metrics_address(), &[])?;
    Ok(Everything { plane, postgres, prometheus, caddy, redis })
}

/// The shell may evaluate it: what is not a command is a comment.
fn describe(session: &Session, everything: &Everything) -> String {
    let Everything { plane, postgres, prometheus, caddy, redis } = everything;
    let folder = session.folder().display();
    let kubectl_folder = plane.kubectl().parent().unwrap_or(session.folder()).display();
    format!(
        "export KUBECONFIG={kubeconfig}\n\
         export PATH={kubectl_folder}:$PATH\n\
         export DATABASE_URL={database}\n\
         export REDIS_URL=redis://127.0.0.1:{redis}\n\
         # API server  {api}\n\
         # audit log   {audit}\n\
         # Prometheus  {prometheus}\n\
         # Caddy       {edge}, metrics and administration at http://{admin}\n\
         # logs        {folder}/*.log\n\
         # Ctrl-C stops all of it and removes the folder.\n",
        kubeconfig = plane.kubeconfig().display(),
        database = postgres.superuser_url(SUPERUSER),
        redis = redis.port(),
        api = plane.url(),
        audit = plane.audit_log().display(),
        prometheus = prometheus.url(),
        edge = caddy.url(),
        admin = caddy.metrics_address(),
    )
}
