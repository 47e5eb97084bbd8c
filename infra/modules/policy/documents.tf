locals {
  # Statements differ in having a Condition, which lists of one type cannot: each is encoded by itself.
  policies = {
    for role in local.roles : role => jsonencode({ Version = "2012-10-17", Statement = local.statements[role] })
  }

  # Rules and machines of other accounts are refused. Lambda names no account when it takes a role.
  services = merge(
    {
      for role in ["worker", "direct"] : role => {
        Version = "2012-10-17"
        Statement = [{
          Sid       = "LambdaRunsTheFunction", Effect = "Allow", Action = ["sts:AssumeRole"]
          Principal = { Service = "lambda.amazonaws.com" }
        }]
      }
    },
    {
      for role in ["states", "events"] : role => {
        Version = "2012-10-17"
        Statement = [{
          Sid       = "TheServiceActsForThisAccount", Effect = "Allow", Action = ["sts:AssumeRole"]
          Principal = { Service = "${role}.amazonaws.com" }
          Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } }
        }]
      }
    },
  )
  people = {
    for role in ["client", "deployer", "maintenance"] : role => {
      Version = "2012-10-17"
      Statement = [{
        Sid       = "WhoMayTakeThisRole", Effect = "Allow", Action = ["sts:AssumeRole"]
        Principal = { AWS = lookup(var.trusted_principals, role, ["${local.iam}:root"]) }
      }]
    }
  }
  # GitHub writes numbers behind both names for repositories made, renamed or transferred since 15 July 2026, and where
  # somebody has asked for it: https://docs.github.com/en/actions/reference/security/oidc. A name can go to somebody
  # else, and a number cannot: with numbers, a subject without them is refused.
  github_names   = var.github == null ? [] : split("/", var.github.repository)
  github_ids     = try([var.github.ids.owner, var.github.ids.repository], [])
  github_subject = "repo:${join("/", length(local.github_ids) == 0 ? local.github_names : formatlist("%s@%d", local.github_names, local.github_ids))}"

  github_provider_arn = "${local.iam}:oidc-provider/${local.github_issuer}"
  # `sub` says the repository and either that it is a pull request or which environment; it never says both
  # environment and branch, so the branch is asked of the claim `ref`, which STS has compared since January 2026. An STS
  # that does not know it finds it absent, and refuses.
  github = var.github == null ? {} : {
    ci-plan = {
      Version = "2012-10-17"
      Statement = [{
        Sid       = "PullRequestsOfTheRepositoryPlan", Effect = "Allow", Action = ["sts:AssumeRoleWithWebIdentity"]
        Principal = { Federated = local.github_provider_arn }
        Condition = {
          StringEquals = {
            "${local.github_issuer}:aud" = "sts.amazonaws.com"
            "${local.github_issuer}:sub" = "${local.github_subject}:pull_request"
          }
        }
      }]
    }
    ci-apply = {
      Version = "2012-10-17"
      Statement = [{
        Sid       = "TheBranchAppliesFromTheEnvironment", Effect = "Allow", Action = ["sts:AssumeRoleWithWebIdentity"]
        Principal = { Federated = local.github_provider_arn }
        Condition = {
          StringEquals = {
            "${local.github_issuer}:aud" = "sts.amazonaws.com"
            "${local.github_issuer}:sub" = "${local.github_subject}:environment:${var.github.environment}"
            "${local.github_issuer}:ref" = "refs/heads/${var.github.branch}"
          }
        }
      }]
    }
  }
  trust = {
    for role, document in merge(
      { for role, document in local.services : role => jsonencode(document) },
      { for role, document in local.people : role => jsonencode(document) },
      { for role, document in local.github : role => jsonencode(document) },
    ) : role => document
  }

  tls_only = {
    for bucket, arn in { data = local.data, staging = local.staging } : bucket => {
      Sid                     = "RefuseWhatIsNotEncryptedOnItsWay", Effect = "Deny", Principal = "*", Action = "s3:*"
      Resource                = [arn, "${arn}/*"]
      Condition               = { Bool = { "aws:SecureTransport" = "false" } }
    }
  }
  bucket_policies = {
    data = jsonencode({
      Version = "2012-10-17"
      Statement = [
        local.tls_only["data"],
        # Whoever is first is right: what a run keeps is never replaced, whoever asks. (Its `clock` may be.)
        # Frazil never puts these in parts, which this refuses, too.
        {
          Sid = "RefuseToReplaceWhatARunKeeps", Effect = "Deny", Principal = "*", Action = "s3:PutObject"
          Resource = flatten([
            for prefix in local.run_prefixes : [
              for name in ["plan.json", "wishes.json", "run.json", "outcome.json", "fork-*", "receipts/*"] : "${local.data}/${prefix}*/${name}"
            ]
          ])
          Condition = { Null = { "s3:if-none-match" = "true" } }
        },
        # `repo` says where all branches are. Icechunk replaces what it has read and nothing else, and so must others.
        {
          Sid       = "RefuseToMoveBranchesUnseen", Effect = "Deny", Principal = "*", Action = "s3:PutObject"
          Resource  = [for repository in var.repositories : "${local.data}/${repository}/repo"]
          Condition = { Null = { "s3:if-match" = "true", "s3:if-none-match" = "true" } }
        },
      ]
    })
    staging = jsonencode({ Version = "2012-10-17", Statement = [local.tls_only["staging"]] })
  }

  repository_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "FunctionsFetchTheirImage", Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" }
      Action    = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      Condition = { StringLike = { "aws:SourceArn" = concat(values(local.function_arns), [local.direct_arn]) } }
    }]
  })

  lithops_config = {
    lithops = { backend = "aws_lambda", storage = "aws_s3" }
    aws     = { region = var.region }
    aws_lambda = {
      account_id      = var.account_id
      user_id         = var.user_id
      execution_role  = local.role_arns["worker"]
      runtime         = var.runtime
      runtime_memory  = var.memory_sizes[0]
      runtime_timeout = var.timeout
    }
    aws_s3 = { storage_bucket = var.staging_bucket }
  }
}
