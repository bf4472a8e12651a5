# The cloud under the platform: network, Kubernetes cluster with its node groups, buckets, DNS zone. What runs in the cluster is
# cluster/k8s. terraform init && terraform plan -var-file=production.tfvars

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region = var.region
  default_tags {
    tags = { platform = var.name }
  }
}

data "aws_availability_zones" "here" {
  state = "available"
}

locals {
  zones = slice(data.aws_availability_zones.here.names, 0, 3)
}
