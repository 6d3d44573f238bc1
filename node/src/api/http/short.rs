//! The short interface: `/?next=STATE` moves the built-in instance `triad/default`, `/` shows it.
//! One line of plain text each way.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{ALLOW, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use lockstep_machine::{
    Command, Instance, InstanceId, Outcome, Rejection, Reply, StateName, Transition, Trigger,
};
use lockstep_proto::ErrorCode;

use super::described::ShortRefusals;
use super::input::Key;
use super::problem::{Problem, rejection_status, retry_after_seconds, status};
use super::query::{Query, query};
use super::{Edge, text};
use crate::api::count_transitions;
use crate::service::ServiceError;

/// What the caller asks for.
#[derive(Debug, PartialEq, Eq)]
enum Ask {
    Show,
    Move(StateName),
}

query! {
    /// The parameter of a move, or none.
    Next {
        /// The state to move triad/default to; its state is shown without it.
        next: Option<StateName>,
    }
}

query! {
    /// The parameter of a move.
    NextByPost {
        /// The state to move triad/default to.
        next: StateName,
    }
}

/// Where [`handle`] is described: one handler, two operations with different parameters.
#[utoipa::path(get, path = "/", tag = "short", params(Next, Key), responses(
    (status = 200, body = String, content_type = "text/plain", description = "The current state"),
    ShortRefusals,
))]
#[expect(dead_code, reason = "carries a description")]
pub(super) fn show_or_move() {}

/// The same by POST.
#[utoipa::path(post, path = "/", tag = "short", params(NextByPost, Key), responses(
    (status = 200, body = String, content_type = "text/plain", description = "The current state"),
    ShortRefusals,
))]
#[expect(dead_code, reason = "carries a description")]
pub(super) fn move_by_post() {}

/// `GET /`, `GET|POST /?next=STATE`.
pub(super) async fn handle(
    State(edge): State<Arc<Edge>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let (ask, key) = match parse(&method, &uri).and_then(|ask| Ok((ask, Key::of(&headers)?.0))) {
        Ok(asked) => asked,
        Err(problem) => return refuse(&problem),
    };
    let instance = match InstanceId::new("triad", "default") {
        Ok(instance) => instance,
        Err(error) => return refuse(&error.into()),
    };
    let deadline = edge.local.limits.request_timeout;
    match ask {
        Ask::Show => {
            let confirmed = edge.service.confirm(deadline).await;
            shown(confirmed.map(|()| {
                let find = |instance: &Instance| instance.state.clone();
                edge.service
                    .peek(|state| state.instance(&instance).map(find))
            }))
        }
        Ask::Move(state) => {
            let transition = Transition::new(instance, Trigger::To(state));
            let command = Command::Transition(transition);
            let answer = edge.service.execute(command, key, deadline).await;
            if let Ok(reply) = &answer {
                count_transitions(&edge.local.report, reply);
            }
            moved(answer)
        }
    }
}

fn parse(method: &Method, uri: &Uri) -> Result<Ask, Problem> {
    let next = match *method {
        Method::POST => Query::<NextByPost>::of(uri)?.0.next.into(),
        _ => Query::<Next>::of(uri)?.0.next,
    };
    match next {
        // axum answers HEAD through GET, and a HEAD must not move anything.
        Some(_) if *method == Method::HEAD => Err(Problem::new(
            ErrorCode::MethodNotAllowed,
            "HEAD cannot change state; use GET or POST",
        )),
        Some(next) => Ok(Ask::Move(next)),
        None => Ok(Ask::Show),
    }
}

fn refuse(problem: &Problem) -> Response {
    let mut response = text(
        problem.status,
        format_args!("bad request: {}", problem.detail),
    );
    if problem.status == StatusCode::METHOD_NOT_ALLOWED {
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET,POST"));
    }
    response
}

fn shown(answer: Result<Option<StateName>, ServiceError>) -> Response {
    match answer {
        Ok(Some(state)) => text(StatusCode::OK, state),
        Ok(None) => text(
            StatusCode::NOT_FOUND,
            "there is no instance \"triad/default\"",
        ),
        Err(error) => unanswered(&error),
    }
}

fn moved(answer: Result<Reply, ServiceError>) -> Response {
    let rejection = match answer {
        Ok(Reply {
            outcome: Outcome::Transitioned(made),
            ..
        }) => return text(StatusCode::OK, made.to),
        Ok(Reply {
            outcome: Outcome::Rejected(rejection),
            ..
        }) => rejection,
        Ok(Reply { .. }) => {
            return text(
                StatusCode::BAD_GATEWAY,
                "this node runs an older release and cannot read the outcome",
            );
        }
        Err(error) => return unanswered(&error),
    };
    match rejection {
        Rejection::IllegalTransition { .. } | Rejection::UnknownState { .. } => text(
            StatusCode::BAD_REQUEST,
            format_args!("invalid transition: {rejection}"),
        ),
        _ => text(rejection_status(&rejection), &rejection),
    }
}

fn unanswered(error: &ServiceError) -> Response {
    let mut response = text(
        status(error.code()),
        format_args!("{}: {error}", error.code()),
    );
    if let Some(after) = error
        .retry_after()
        .map(|after: Duration| retry_after_seconds(after))
    {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(after));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use lockstep_machine::{GlobalRevision, Revision, Timestamp, Transitioned, Version};

    fn state(name: &str) -> StateName {
        StateName::new(name).unwrap()
    }

    fn ask(method: Method, uri: &str) -> Result<Ask, (u16, String)> {
        parse(&method, &uri.parse().unwrap())
            .map_err(|problem| (problem.status.as_u16(), problem.detail))
    }

    async fn line(response: Response) -> (u16, String) {
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn rejected(rejection: Rejection) -> Result<Reply, ServiceError> {
        Ok(Reply {
            outcome: Outcome::Rejected(rejection),
            replayed: false,
            revision: GlobalRevision(1),
        })
    }

    #[test]
    fn next_is_read_strictly() {
        assert_eq!(ask(Method::GET, "/"), Ok(Ask::Show));
        assert_eq!(
            ask(Method::GET, "/?next=second"),
            Ok(Ask::Move(state("second")))
        );
        assert_eq!(
            ask(Method::POST, "/?next=second"),
            Ok(Ask::Move(state("second")))
        );
        let long = format!("/?next={}", "x".repeat(65));
        for (method, uri, status, words) in [
            (Method::POST, "/", 400, "is missing"),
            (Method::GET, "/?next=", 400, "it is empty"),
            (Method::GET, "/?next=a&next=a", 400, "more than once"),
            (Method::GET, "/?nxt=a", 400, "unknown parameter \"nxt\""),
            (Method::GET, "/?next=a%20b", 400, "character 2 is a space"),
            (Method::GET, "/?next=%ff", 400, "character 1 is"),
            (Method::GET, &long, 400, "use 1 to 64 ASCII letters"),
            (Method::HEAD, "/?next=second", 405, "HEAD"),
        ] {
            let (code, detail) = ask(method, uri).expect_err(uri);
            assert_eq!(code, status, "{uri}");
            assert!(detail.contains(words), "{uri}: {detail}");
        }
    }

    #[tokio::test]
    async fn a_move_answers_with_the_new_state() {
        let made = Transitioned {
            instance: InstanceId::new("triad", "default").unwrap(),
            version: Version(1),
            from: state("first"),
            to: state("second"),
            event: None,
            revision: Revision(1),
            at: Timestamp(1),
        };
        let reply = Reply {
            outcome: Outcome::Transitioned(made),
            replayed: false,
            revision: GlobalRevision(1),
        };
        assert_eq!(line(moved(Ok(reply))).await, (200, "second\n".to_owned()));
    }

    #[tokio::test]
    async fn an_illegal_move_is_an_invalid_transition_that_says_what_is_allowed() {
        let answer = rejected(Rejection::IllegalTransition {
            instance: InstanceId::new("triad", "default").unwrap(),
            from: state("second"),
            to: state("first"),
            allowed: vec![state("third")],
            revision: Revision(1),
            events: None,
        });
        let (status, text) = line(moved(answer)).await;
        assert_eq!(status, 400);
        assert!(
            text.starts_with("invalid transition: ") && text.ends_with("third\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
    }

    #[tokio::test]
    async fn an_unknown_state_is_an_invalid_transition_too() {
        let answer = rejected(Rejection::UnknownState {
            machine: lockstep_machine::MachineName::new("triad").unwrap(),
            state: state("fourth"),
            known: vec![state("first"), state("second")],
            current: state("first"),
            revision: Revision(0),
        });
        let (status, text) = line(moved(answer)).await;
        assert_eq!(status, 400);
        assert!(
            text.starts_with("invalid transition: ") && text.contains("first, second"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn no_answer_says_so_and_when_to_try_again() {
        let waited = Duration::from_millis(1500);
        for (error, status, hint) in [
            (ServiceError::Unavailable { waited }, 503, Some("1")),
            (
                ServiceError::NotReady {
                    reason: "stopping".to_owned(),
                },
                503,
                Some("1"),
            ),
            (ServiceError::Overloaded, 429, Some("1")),
            (ServiceError::DiskFull, 503, Some("5")),
            (ServiceError::OutcomeUnknown { waited }, 504, None),
        ] {
            let code = error.code();
            let response = moved(Err(error));
            assert_eq!(
                response
                    .headers()
                    .get(RETRY_AFTER)
                    .map(|v| v.to_str().unwrap()),
                hint
            );
            let (found, text) = line(response).await;
            assert_eq!(found, status);
            assert!(text.starts_with(code.as_str()), "{text}");
        }
    }
}
