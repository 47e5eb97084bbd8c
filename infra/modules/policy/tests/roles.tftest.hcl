# What the documents hold. What they let through is tried on a server that enforces them.
variables {
  name           = "frazil"
  account_id     = "111122223333"
  region         = "eu-central-1"
  data_bucket    = "example-data"
  staging_bucket = "example-staging"
  repositories   = ["archive"]
  sources        = [{ bucket = "example-raw", prefix = "raw" }]
  github         = { repository = "owner/name", branch = "main", environment = "production" }
}

run "only_maintenance_deletes_in_a_repository" {
  command = plan

  assert {
    condition = toset([
      for role, policy in output.policies : role if anytrue([
        for statement in jsondecode(policy).Statement :
        contains(statement.Action, "s3:DeleteObject") && anytrue([for one in statement.Resource : startswith(one, "arn:aws:s3:::example-data/archive/")])
      ])
    ]) == toset(["maintenance"])
    error_message = "Other roles than maintenance may delete in a repository."
  }
}

run "a_worker_writes_chunks_receipts_and_answers" {
  command = plan

  assert {
    condition = toset(flatten([
      for statement in jsondecode(output.policies["worker"]).Statement : statement.Resource if contains(statement.Action, "s3:PutObject")
      ])) == toset([
      "arn:aws:s3:::example-data/archive/chunks/*",
      "arn:aws:s3:::example-data/archive.frazil/*/receipts/*",
      "arn:aws:s3:::example-staging/lithops.jobs/*",
    ])
    error_message = "A worker may put objects somewhere else, too, or not where it must."
  }
}

run "pull_requests_change_nothing" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for statement in jsondecode(output.policies["ci-plan"]).Statement : [for action in statement.Action : contains(["s3:GetObject", "s3:ListBucket"], action)]
    ]))
    error_message = "The role of pull requests may do more than read."
  }

  assert {
    condition     = jsondecode(output.trust["ci-plan"]).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == "repo:owner/name:pull_request"
    error_message = "The role of pull requests can be taken by something else."
  }
}

run "applying_is_bound_to_repository_environment_and_branch" {
  command = plan

  assert {
    condition = jsondecode(output.trust["ci-apply"]).Statement[0].Condition == {
      StringEquals = {
        "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
        "token.actions.githubusercontent.com:ref" = "refs/heads/main"
        "token.actions.githubusercontent.com:sub" = "repo:owner/name:environment:production"
      }
    }
    error_message = "The role that applies can be taken from somewhere else."
  }
}

run "a_repository_with_numbers_is_known_by_them_alone" {
  command = plan

  variables {
    github = { repository = "owner/name", branch = "main", environment = "production", ids = { owner = 123456, repository = 1234567890 } }
  }

  assert {
    condition = { for role in ["ci-plan", "ci-apply"] : role => jsondecode(output.trust[role]).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] } == {
      ci-plan  = "repo:owner@123456/name@1234567890:pull_request"
      ci-apply = "repo:owner@123456/name@1234567890:environment:production"
    }
    error_message = "GitHub's tokens would name the repository in another way: ${jsonencode(output.trust)}."
  }
}

run "no_github_means_no_roles_for_it" {
  command = plan

  variables {
    github = null
  }

  assert {
    condition     = toset(keys(output.policies)) == toset(["worker", "direct", "states", "events", "client", "deployer", "maintenance"]) && toset(keys(output.trust)) == toset(keys(output.policies))
    error_message = "There are roles for CI that nobody asked for."
  }
}

run "the_account_trusts_whom_it_is_told_to" {
  command = plan

  variables {
    trusted_principals = { maintenance = ["arn:aws:iam::111122223333:role/operators"] }
  }

  assert {
    condition = (
      jsondecode(output.trust["maintenance"]).Statement[0].Principal.AWS == ["arn:aws:iam::111122223333:role/operators"]
      && jsondecode(output.trust["client"]).Statement[0].Principal.AWS == ["arn:aws:iam::111122223333:root"]
    )
    error_message = "Trust is not what was asked for."
  }
}

run "the_deployer_passes_one_role_to_lambda_alone" {
  command = plan

  assert {
    condition = [
      for statement in jsondecode(output.policies["deployer"]).Statement : [statement.Resource, statement.Condition] if contains(statement.Action, "iam:PassRole")
    ] == [[["arn:aws:iam::111122223333:role/frazil-worker"], { StringEquals = { "iam:PassedToService" = "lambda.amazonaws.com" } }]]
    error_message = "The deployer may pass other roles, or to other services."
  }
}

run "a_policy_that_is_too_long_is_refused" {
  command = plan

  variables {
    repositories = [for number in range(60) : "a-rather-long-prefix-of-a-repository/number-${number}"]
  }

  expect_failures = [output.policies]
}

run "services_act_for_this_account_alone" {
  command = plan

  assert {
    condition = alltrue([
      for role in ["states", "events"] :
      jsondecode(output.trust[role]).Statement[0].Condition == { StringEquals = { "aws:SourceAccount" = "111122223333" } }
      && jsondecode(output.trust[role]).Statement[0].Principal == { Service = "${role}.amazonaws.com" }
    ])
    error_message = "A rule or a machine of another account could use a role of this one."
  }
}
