//! The short interface: `/?next=STATE` moves the built-in instance `triad/default`, `/` shows it.
//! One line of plain text each way.

use std::fmt::Display;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use lockstep_machine::{
    Command, Instance, InstanceId, Outcome, Rejection, Reply, StateName, Transition, Trigger,
};
use lockstep_proto::ErrorCode;

use super::input::Key;
use super::query::{Query, query};
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::service::ServiceError;

query! {
    Next {
        /// The state to move triad/default to; its state is shown without it.
        next: Option<StateName>,
    }
}

query! {
    NextByPost {
        /// The state to move triad/default to.
        next: StateName,
    }
}

pub(super) async fn show_or_move(
    call: Call,
    method: Method,
    next: Result<Query<Next>, Problem>,
    key: Result<Key, Problem>,
) -> Response {
    let next = next.and_then(|next| unless_head(&method, next));
    answer(&call, next, key).await
}

/// axum answers HEAD through GET, and a HEAD must not move anything.
fn unless_head(
    method: &Method,
    Query(Next { next }): Query<Next>,
) -> Result<Option<StateName>, Problem> {
    if next.is_none() || *method != Method::HEAD {
        return Ok(next);
    }
    let detail = "HEAD cannot change state; use GET or POST";
    Err(Problem::new(ErrorCode::MethodNotAllowed, detail).allow("GET,POST"))
}

pub(super) async fn move_by_post(
    call: Call,
    next: Result<Query<NextByPost>, Problem>,
    key: Result<Key, Problem>,
) -> Response {
    let next = next.map(|Query(NextByPost { next })| Some(next));
    answer(&call, next, key).await
}

async fn answer(
    call: &Call,
    next: Result<Option<StateName>, Problem>,
    key: Result<Key, Problem>,
) -> Response {
    let asked = next.and_then(|next| Ok((next, key?.0, InstanceId::new("triad", "default")?)));
    let (next, key, instance) = match asked {
        Ok(asked) => asked,
        Err(problem) => return failed(&problem, "bad request: "),
    };
    let service = &call.edge.service;
    match next {
        None => {
            let confirmed = service.confirm(call.left()).await;
            shown(confirmed.map(|()| {
                let find = |instance: &Instance| instance.state.clone();
                service.peek(|state| state.instance(&instance).map(find))
            }))
        }
        Some(state) => {
            let transition = Transition::new(instance, Trigger::To(state));
            moved(call.execute(Command::Transition(transition), key).await)
        }
    }
}

fn shown(answer: Result<Option<StateName>, ServiceError>) -> Response {
    match answer {
        Ok(Some(state)) => text(StatusCode::OK, state),
        Ok(None) => text(
            StatusCode::NOT_FOUND,
            "there is no instance \"triad/default\"",
        ),
        Err(error) => unanswered(error),
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
        Err(error) => return unanswered(error),
    };
    match rejection {
        Rejection::IllegalTransition { .. } | Rejection::UnknownState { .. } => text(
            StatusCode::BAD_REQUEST,
            format_args!("invalid transition: {rejection}"),
        ),
        _ => failed(&rejection.into(), ""),
    }
}

fn unanswered(error: ServiceError) -> Response {
    let code = error.code();
    failed(&error.into(), format_args!("{code}: "))
}

/// An error as a line of text that begins with `label`.
fn failed(problem: &Problem, label: impl Display) -> Response {
    let mut response = text(problem.status, format_args!("{label}{}", problem.detail));
    problem.add_headers(response.headers_mut());
    response
}

/// A plain text answer, one line, never to be cached.
fn text(status: StatusCode, line: impl Display) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
    ];
    (status, headers, format!("{line}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Uri;
    use axum::http::header::RETRY_AFTER;
    use http_body_util::BodyExt;
    use lockstep_machine::{GlobalRevision, Revision, Timestamp, Transitioned, Version};
    use std::time::Duration;

    fn state(name: &str) -> StateName {
        StateName::new(name).unwrap()
    }

    fn ask(method: Method, uri: &str) -> Result<Option<StateName>, (u16, String)> {
        let uri: Uri = uri.parse().unwrap();
        let next = match method {
            Method::POST => Query::<NextByPost>::of(&uri).map(|it| Some(it.0.next)),
            _ => Query::of(&uri).and_then(|next| unless_head(&method, next)),
        };
        next.map_err(|problem| (problem.status.as_u16(), problem.detail))
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
        assert_eq!(ask(Method::GET, "/"), Ok(None));
        assert_eq!(ask(Method::GET, "/?next=second"), Ok(Some(state("second"))));
        assert_eq!(
            ask(Method::POST, "/?next=second"),
            Ok(Some(state("second")))
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
