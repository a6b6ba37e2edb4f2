use launcher::{
    container::ImagePolicy,
    docker::{DockerConfig, DockerLauncher},
    error::{LaunchError, ProbeError, PullFailure},
    launcher::Launcher as _,
    spec::{Input, LaunchSpec, UserId},
};

use super::support::{Boxes, mount, shell};

/// What becomes of a launch that is refused, checking that it leaves nothing and uses no id up.
async fn refused(boxes: &Boxes, change: impl FnOnce(&mut LaunchSpec)) -> LaunchError {
    let (launcher, id) = (boxes.launcher(), "refused".parse().unwrap());
    let mut spec = shell("true");
    change(&mut spec);
    let error = launcher.launch(&id, &spec, Input::default()).await.unwrap_err();
    assert!(!error.hint().is_empty());
    assert!(!boxes.launch_dir("refused").try_exists().unwrap(), "the id is used up: {error:?}");
    assert_eq!(boxes.docker(&["ps", "-aq", "--filter", "name=refused"]), "", "{error:?}");
    error
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let boxes = Boxes::new();
    let error = refused(&boxes, |spec| {
        spec.container.as_mut().unwrap().image = "opentiger-none:1".to_owned();
    });
    assert!(
        matches!(error.await, LaunchError::ImageMissing { image } if image == "opentiger-none:1")
    );
    let error = refused(&boxes, |spec| {
        spec.container.as_mut().unwrap().network = "opentiger-none".to_owned();
    });
    assert!(
        matches!(error.await, LaunchError::NetworkMissing { network } if network == "opentiger-none")
    );
    let missing = boxes.path().join("missing");
    let error = refused(&boxes, |spec| mount(spec, &missing, "/missing")).await;
    assert!(
        matches!(&error, LaunchError::MountDenied { path, .. } if *path == missing),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_right_names_its_field() {
    let boxes = Boxes::new();
    let field = async |change: fn(&mut LaunchSpec)| match refused(&boxes, change).await {
        LaunchError::InvalidSpec { field, .. } => field,
        other => panic!("not refused by field: {other:?}"),
    };
    assert_eq!(field(|spec| spec.container = None).await, "container");
    assert_eq!(field(|spec| spec.user = None).await, "user");
    assert_eq!(field(|spec| spec.user = Some(UserId { uid: 0, gid: 0 })).await, "user");
    let image = |spec: &mut LaunchSpec| {
        spec.container.as_mut().unwrap().image = "openTiger/worker:latest".to_owned();
    };
    assert_eq!(field(image).await, "container.image");
    let image = |spec: &mut LaunchSpec| {
        spec.container.as_mut().unwrap().image = "../x?y".to_owned();
    };
    assert_eq!(field(image).await, "container.image");
    let network = |spec: &mut LaunchSpec| {
        spec.container.as_mut().unwrap().network = "host".to_owned();
    };
    assert_eq!(field(network).await, "container.network");
    let network = |spec: &mut LaunchSpec| {
        spec.container.as_mut().unwrap().network = "container:x".to_owned();
    };
    assert_eq!(field(network).await, "container.network");
    let home = |spec: &mut LaunchSpec| mount(spec, "/tmp".as_ref(), "/run/opentiger/launch");
    assert_eq!(field(home).await, "container.mounts");
}

#[tokio::test]
async fn image_that_no_registry_gives_is_refused_with_the_reason() {
    let boxes = Boxes::new();
    // Nobody listens there.
    let error = refused(&boxes, |spec| {
        let container = spec.container.as_mut().unwrap();
        container.image = "127.0.0.1:9/nothing:1".to_owned();
        container.pull = ImagePolicy::IfMissing;
    })
    .await;
    assert!(error.is_transient(), "{error:?}");
    let LaunchError::ImageRefused { reason: PullFailure::Network { .. }, .. } = error else {
        panic!("{error:?}");
    };
}

#[tokio::test]
async fn command_that_is_not_there_and_interpreter_that_is_not_there_are_told_apart() {
    let boxes = Boxes::new();
    let texts = boxes.path().join("texts");
    std::fs::create_dir(&texts).unwrap();
    let script = texts.join("script");
    std::fs::write(&script, "#!/nonexistent/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let launch = async |id: &str, program: &str| {
        let mut spec = LaunchSpec { program: program.into(), ..shell("") };
        mount(&mut spec, &texts, "/texts");
        boxes.launch(id, &spec).await.unwrap_err()
    };
    let error = launch("bare", "no-such-program").await;
    assert!(matches!(error, LaunchError::ProgramMissing { .. }), "{error:?}");
    let error = launch("script", "/texts/script").await;
    assert!(error.hint().contains("interpreter"), "{error:?}");
    boxes.clear().await;
}

#[tokio::test]
async fn engine_that_is_not_there_is_told_from_one_that_is_closed() {
    let scratch = tempfile::tempdir().unwrap();
    let open = |host: &str| {
        let config = DockerConfig { host: Some(host.to_owned()), store: scratch.path().join("s") };
        DockerLauncher::open(config).unwrap()
    };
    let launch = async |launcher: DockerLauncher| {
        let (id, spec) = ("x".parse().unwrap(), shell("true"));
        launcher.launch(&id, &spec, Input::default()).await.unwrap_err()
    };
    let gone = format!("unix://{}/gone.sock", scratch.path().display());
    let error = launch(open(&gone)).await;
    assert!(matches!(error, LaunchError::EngineUnreachable { .. }), "{error:?}");
    assert!(
        error.is_transient()
            && !open(&gone).launch_dir(&"x".parse().unwrap()).try_exists().unwrap()
    );
    assert!(matches!(open(&gone).probe().await, Err(ProbeError::Engine(_))));
    // A socket that nobody serves any more.
    let dead = scratch.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let error = launch(open(&format!("unix://{}", dead.display()))).await;
    assert!(matches!(error, LaunchError::EngineUnreachable { .. }), "{error:?}");
    let error = launch(open("ssh://somewhere")).await;
    assert!(matches!(error, LaunchError::EngineRefused { .. }), "{error:?}");
    assert!(error.hint().contains("unix://"), "{}", error.hint());
}
