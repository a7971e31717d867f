//! `lab tools`

use lab::packages::{self, Origin, Programs};
use lab::{GitOps, NodeTools, Result, Session, Toolchain, Venv, helm, workspace};

pub(crate) async fn run() -> Result<()> {
    let session = Session::start().await?;
    let toolchain = Toolchain::find_or_build(&session).await?;
    for (name, path) in toolchain.programs() {
        super::print(&format!("{name:<24} {}\n", path.display()));
    }
    super::print(&format!("{:<24} {}\n", "helm", helm(&session).await?.display()));
    let gitops = GitOps::find_or_build(&session).await?;
    super::print(&format!("{:<24} {}\n", "gitops-health", gitops.program().display()));
    for path in gitops.definitions() {
        super::print(&format!("{:<24} {}\n", "", path.display()));
    }
    for (name, path) in NodeTools::find_or_build(&session).await?.programs() {
        super::print(&format!("{name:<24} {}\n", path.display()));
    }
    for package in packages::ALL {
        let found = Programs::find(&session, package).await?;
        let from = match found.origin {
            Origin::Override => package.overridden_by,
            Origin::System => "installed",
            Origin::Cache => "unpacked into the cache",
        };
        let first = package.programs.first().copied().unwrap_or_default();
        let path = found.program(first);
        super::print(&format!("{first:<24} {} ({}; {from})\n", path.display(), found.version));
    }
    Venv::find_or_build(&session, &workspace::root().join(workspace::PYTHON)).await?;
    super::print(&format!("{:<24} the packages of {}\n", "", workspace::PYTHON));
    Ok(())
}
